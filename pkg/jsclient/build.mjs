// Builds dist/, or with --test the tests into build/. The types come from tsc.
import { readdirSync, rmSync } from "node:fs";
import { build } from "esbuild";

const test = process.argv.includes("--test");
const [from, to] = test ? ["test", "build"] : ["src", "dist"];
const entries = test ? readdirSync(from).filter((name) => name.endsWith(".test.ts")) : ["index.ts", "react.ts", "vue.ts"];

rmSync(to, { recursive: true, force: true });
await build({
  entryPoints: entries.map((name) => `${from}/${name}`),
  outdir: to,
  bundle: true,
  format: "esm",
  target: "es2022",
  minify: !test,
  sourcemap: true,
  packages: "external",
  platform: test ? "node" : "neutral",
});
