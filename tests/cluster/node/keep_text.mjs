// What a person wrote or was told stays: refusals, copies, settings, a cleared context and two tabs, in headless
// Chromium; writes what it saw as JSON. Answers are made up here, so that their times are known.
//   node keep_text.mjs http://127.0.0.1:8080 CHROMIUM
import { chromium } from "playwright-core";

const [address, executablePath] = process.argv.slice(2);
// A name that is not localhost over plain HTTP, as in most offices: no navigator.clipboard, no crypto.randomUUID.
const url = `http://gateway.lan:${new URL(address).port}`;
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox", "--host-resolver-rules=MAP gateway.lan 127.0.0.1"] });
const context = await browser.newContext({ locale: "en-US" });
const told = { problems: [], asked: [] };
context.on("page", (page) => page.on("pageerror", (error) => told.problems.push(String(error))));

const event = (content) => `data: ${JSON.stringify({ choices: [{ index: 0, delta: { content } }] })}\n\n`;
let refusal = null;  // what requests get instead of an answer
let held = Promise.resolve();  // answers wait for it
await context.route("**/v1/chat/completions", async (route) => {
  const words = route.request().postDataJSON().messages.map((message) => message.content);
  const reply = refusal ?? { contentType: "text/event-stream", body: event(`answer to ${words.at(-1)}`) + "data: [DONE]\n\n" };
  told.asked.push(words);
  await held;
  await route.fulfill(reply);
});
function hold() {
  let release;
  held = new Promise((resolve) => { release = resolve; });
  return release;
}
const open = async () => {
  const page = await context.newPage();
  await page.goto(url);
  await page.waitForSelector("#model option", { state: "attached" });
  return page;
};
const idle = (page) => page.waitForSelector("#send:not([hidden])");
const begin = async (page, text) => { await page.fill("#input", text); await page.press("#input", "Enter"); };
const send = async (page, text) => { await begin(page, text); await idle(page); };
const shown = (page) => page.locator(".message .body").allInnerTexts();

const one = await open();
told.secure = await one.evaluate(() => window.isSecureContext);

// Refusals in other shapes than OpenAI's.
told.notices = [];
for (const answer of [{ status: 503, json: { detail: "the demo is full" } },
  { status: 422, json: { detail: [{ loc: ["body", "top_p"], msg: "top_p is wrong", type: "value_error" }] } },
  { status: 502, contentType: "text/html", body: "<html>Bad Gateway</html>" }, { status: 500, json: null },
  { status: 400, json: { error: { message: "no such thing" } } }]) {
  refusal = answer;
  await send(one, "please");
  told.notices.push(await one.textContent("#notice"));
}
refusal = null;

// Copies, checked by pasting.
const pasted = async () => {
  await one.fill("#input", "");
  await one.press("#input", "Control+V");
  return one.inputValue("#input");
};
await one.click("#new");
await send(one, "code:\n```\na\n  b\n```");
await one.locator("[data-action=copy]").first().click();
told.copied = [await pasted()];
await one.click(".copy-code");
told.copied.push(await pasted());
told.leftBehind = await one.locator("body > textarea").count();

// A system prompt is typed while an answer comes.
await one.click("#new");
let release = hold();
await begin(one, "first");
await one.locator("#system").pressSequentially("You rhyme.");
release();
await idle(one);
told.system = await one.inputValue("#system");
await send(one, "second");
told.askedWithSystem = told.asked.at(-1);
await one.fill("#system", "");

// A cleared context and another answer.
await one.click("#new");
await send(one, "alpha");
await send(one, "beta");
await one.click("#clear");
refusal = { status: 400, json: { error: { message: "not now" } } };
await one.click("[data-action=regenerate]");
await idle(one);
told.refused = [await one.textContent("#notice"), (await shown(one)).at(-1)];
refusal = null;
await one.click("[data-action=regenerate]");
await idle(one);
told.regenerated = [told.asked.at(-1), (await shown(one)).length];
await one.click("#clear");
await send(one, "gamma");
told.askedAfterClear = told.asked.at(-1);
release = hold();
await begin(one, "delta");
await one.click("#clear");
release();
await idle(one);
told.clearedMeanwhile = [(await shown(one)).at(-1), await one.locator(".cut").count()];
await browser.close();
console.log(JSON.stringify(told));
