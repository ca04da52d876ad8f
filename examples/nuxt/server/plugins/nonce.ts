// The program in front allows scripts with its nonce only. Nuxt's own stand in the head and at the end of the body; what comes
// out of a page's template is in between and gets none.
export default defineNitroPlugin((nitro) => {
  nitro.hooks.hook("render:html", (html, { event }) => {
    const nonce = getRequestHeader(event, "x-script-nonce");
    if (!nonce || !/^[A-Z2-7]+$/.test(nonce)) return;
    const mark = (text: string) => text.replaceAll("<script", `<script nonce="${nonce}"`);
    html.head = html.head.map(mark);
    html.bodyAppend = html.bodyAppend.map(mark);
  });
});
