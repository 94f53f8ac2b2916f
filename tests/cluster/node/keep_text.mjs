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

// Once a single entry held everything.
const titles = (page) => page.locator("#conversations li button:first-child").allInnerTexts();
const entry = (page, title) => page.locator("#conversations li", { hasText: title });
await one.evaluate(() => {
  localStorage.clear();
  sessionStorage.clear();
  const conversation = (text) => ({ title: text, messages: [{ role: "user", content: text }] });
  localStorage.setItem("yangtuo.chat.1", JSON.stringify({
    language: "en", settings: { temperature: 0.5 }, current: 0, conversations: [conversation("newer"), conversation("older")] }));
});
await one.reload();
told.fromOneEntry = [await titles(one), await shown(one), await one.inputValue("#temperature"), await one.inputValue("#top_k")];

// Two tabs.
await one.click("#new");
const two = await open();
await two.click("#new");
await two.fill("#input", "half a thou");
await send(one, "cat");
await entry(two, "cat").waitFor();
told.undisturbed = [await shown(two), await two.inputValue("#input")];
await send(two, "dog");
await entry(one, "dog").waitFor();
told.tabs = [await titles(one), await titles(two)];
await Promise.all([one.reload(), two.reload()]);
told.tabsAfterReload = [await titles(one), await titles(two), await shown(one), await shown(two)];
await two.locator("#system").pressSequentially("Be ");
await one.fill("#temperature", "0.7");
await one.press("#temperature", "Tab");
await two.waitForFunction(() => document.getElementById("temperature").value === "0.7");
await two.locator("#system").pressSequentially("brief.");
await two.press("#system", "Tab");
await one.waitForFunction(() => document.getElementById("system").value === "Be brief.");
await one.reload();
told.sharedSettings = [await one.inputValue("#temperature"), await one.inputValue("#system")];

// Both in one conversation: the other's words appear, and what both send at once is kept.
await entry(one, "dog").locator("button").first().click();
await send(one, "puppy");
await two.locator(".message .body", { hasText: "answer to puppy" }).waitFor();
release = hold();
await begin(one, "bone");
await two.locator(".message .body", { hasText: "bone" }).waitFor();
await begin(two, "leash");
release();
await Promise.all([idle(one), idle(two)]);
await entry(one, "dog").nth(1).waitFor();
told.bothAtOnce = [(await shown(one)).at(-1), (await shown(two)).at(-1)];
told.stored = await one.evaluate(() => ["bone", "leash"].map((word) =>
  Object.values(localStorage).filter((text) => text.includes("answer to " + word)).length));

// What one tab removes is gone from the other, unless an answer is coming there.
await entry(one, "older").locator("button").last().click();
await entry(two, "older").waitFor({ state: "detached" });
await entry(two, "cat").locator("button").first().click();
release = hold();
await begin(two, "kitten");
await entry(one, "cat").locator("button").last().click();
await entry(one, "cat").waitFor({ state: "detached" });
release();
await idle(two);
await entry(one, "cat").waitFor();
told.afterRemoval = [await titles(one), (await shown(two)).at(-1)];
await browser.close();
console.log(JSON.stringify(told));
