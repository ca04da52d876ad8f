// Asks who is logged in, before each page: a change of roles or a logout elsewhere shows at the next click.
export default defineNuxtRouteMiddleware(async () => {
  const user = useUser();
  if (import.meta.client && (useNuxtApp().isHydrating || !user.value)) return;
  try {
    user.value = await useApi()<User>("/auth/me");
  } catch (error: any) {
    if (error.statusCode !== 401) throw createError({ statusCode: 503, statusMessage: "Try again", fatal: true });
    user.value = null;
  }
});
