// AppAuth's modules import each other without file name extensions, as bundlers allow and Node does not. This adds them; the library is as it is published.
import { register } from "node:module";

register(`data:text/javascript,${encodeURIComponent(`
export async function resolve(specifier, context, next) {
  if (!specifier.startsWith(".") || specifier.endsWith(".js") || !context.parentURL?.includes("/@openid/appauth/")) return next(specifier, context);
  return next(specifier + ".js", context).catch(() => next(specifier + "/index.js", context));
}`)}`);
