import { type App, inject, type InjectionKey, onScopeDispose, readonly, type Ref, shallowRef } from "vue";
import type { Client, User } from "./types.js";

const injected: InjectionKey<Client> = Symbol("handstamp");

/** Gives the client to the components of an application: `app.use(handstamp, client)`. */
export const handstamp = {
  install(app: App, client: Client) {
    app.provide(injected, client);
  },
};

/** What a component knows of the login. */
export interface Login {
  client: Client;
  /** Who is logged in; null for nobody, and while that is not known. */
  user: Readonly<Ref<User | null>>;
  /** Not known yet. */
  loading: Readonly<Ref<boolean>>;
  /** Why it could not be found out, or why the login failed. */
  error: Readonly<Ref<unknown>>;
}

/** Returns the client and who is logged in. It takes the answer of the hosted pages from the address. */
export function useHandstamp(onReturn?: (returnTo: string) => void): Login {
  const client = inject(injected);
  if (!client) throw new Error("useHandstamp needs app.use(handstamp, client)");
  const [user, loading, error] = [shallowRef<User | null>(null), shallowRef(true), shallowRef<unknown>()];
  if (typeof document !== "undefined") {
    const off = client.on("change", (next) => {
      user.value = next;
    });
    onScopeDispose(off);
    client
      .handleCallback()
      .then(async (back) => {
        user.value = await client.user();
        if (back) onReturn?.(back.returnTo);
      })
      .catch((e: unknown) => {
        error.value = e;
      })
      .finally(() => {
        loading.value = false;
      });
  }
  return { client, user: readonly(user) as Readonly<Ref<User | null>>, loading: readonly(loading), error: readonly(error) };
}
