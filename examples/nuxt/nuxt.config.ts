export default defineNuxtConfig({
  compatibilityDate: "2026-11-01",
  telemetry: false,
  devtools: { enabled: false },
  sourcemap: false,
  css: ["~/assets/style.css"],
  features: { inlineStyles: false }, // the policy of the pages allows none
  app: {
    head: {
      htmlAttrs: { lang: "en" },
      title: "Notes",
      meta: [{ name: "color-scheme", content: "light dark" }],
      link: [{ rel: "icon", href: "data:," }],
    },
  },
  // Set by the program in front: NUXT_API, NUXT_PUBLIC_PROVIDER_ID, NUXT_PUBLIC_PROVIDER_NAME.
  runtimeConfig: {
    api: "http://127.0.0.1:3000",
    public: { providerId: "", providerName: "" },
  },
});
