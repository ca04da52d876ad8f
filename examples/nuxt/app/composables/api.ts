export interface User {
  sub: string;
  name?: string;
  email?: string;
  roles: string[];
  csrf_token: string;
}

// useUser is who is logged in, as of the last navigation. It decides what is shown; what is allowed, the API decides.
export const useUser = () => useState<User | null>("user", () => null);

// useApi calls the Go half. In the browser the cookie goes along by itself, and the CSRF token in a header. On Nuxt's server the
// call goes to the API's own address with the visitor's cookie.
export const useApi = () => {
  const accept = "application/json";
  if (import.meta.server) {
    const { cookie = "" } = useRequestHeaders(["cookie"]);
    return $fetch.create({ baseURL: useRuntimeConfig().api, headers: { accept, cookie } });
  }
  const user = useUser();
  return $fetch.create({
    headers: { accept },
    onRequest({ options }) {
      if (user.value) options.headers.set("x-csrf-token", user.value.csrf_token);
    },
  });
};

// useLoad loads what a page shows. Where the API refuses, the page is an error page with the API's status.
export const useLoad = async <T>(path: string) => {
  const api = useApi();
  const loaded = await useAsyncData(path, () => api<T>(path));
  if (loaded.error.value) {
    // In the browser only a fatal error shows the error page; on the server all do, and fatal ones are logged as faults.
    throw createError({ statusCode: loaded.error.value.statusCode ?? 503, statusMessage: "Refused", fatal: import.meta.client });
  }
  return loaded;
};
