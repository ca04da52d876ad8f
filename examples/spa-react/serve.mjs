// Builds the application and serves it: node serve.mjs PORT ISSUER
import { fileURLToPath } from "node:url";
import { context } from "esbuild";

const [port, issuer] = process.argv.slice(2);
const at = (path) => fileURLToPath(new URL(path, import.meta.url));
const build = await context({
  entryPoints: [at("src/main.jsx")],
  outfile: at("www/main.js"),
  bundle: true,
  format: "esm",
  jsx: "automatic",
  sourcemap: true,
  define: { ISSUER: JSON.stringify(issuer) },
  // An application of your own has @handstamp/client in its package.json instead. There must be one React.
  alias: {
    "@handstamp/client": at("../../pkg/jsclient/dist/index.js"),
    "@handstamp/client/react": at("../../pkg/jsclient/dist/react.js"),
    react: at("node_modules/react"),
  },
});
await build.rebuild();
await build.serve({ host: "127.0.0.1", port: Number(port), servedir: at("www"), fallback: at("www/index.html") });
console.log(`the application is ready at http://localhost:${port}`);
