// Cuts from GitHub's published REST description the two operations that logging in through GitHub calls, with every schema
// they reach, so that the tests need not install 29 MB. To renew openapi.json:
//
//   npm install --no-save @octokit/openapi@23.0.2 && node extract.mjs node_modules/@octokit/openapi/generated/api.github.com.json > openapi.json
import { readFileSync } from "node:fs";

const source = JSON.parse(readFileSync(process.argv[2], "utf8"));
const paths = {};
for (const path of ["/user", "/user/emails"]) {
  const { responses, parameters } = source.paths[path].get;
  paths[path] = { get: { operationId: source.paths[path].get.operationId, parameters, responses: { 200: responses[200] } } };
}
const out = { openapi: source.openapi, info: { title: source.info.title, version: source.info.version }, paths, components: {} };

const keep = (node) => {
  if (Array.isArray(node)) return node.forEach(keep);
  if (!node || typeof node !== "object") return;
  delete node.examples; delete node.example; delete node["x-github"]; delete node.links; delete node.headers;
  if (typeof node.$ref === "string") {
    const [kind, name] = node.$ref.split("/").slice(2);
    out.components[kind] ??= {};
    if (kind !== "examples" && !out.components[kind][name]) {
      out.components[kind][name] = source.components[kind][name];
      keep(out.components[kind][name]);
    }
  }
  Object.values(node).forEach(keep);
};
keep(paths);
process.stdout.write(JSON.stringify(out, null, 1) + "\n");
