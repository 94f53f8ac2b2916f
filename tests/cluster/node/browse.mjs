// Uses the chat page as a person would, in headless Chromium; writes what it saw as JSON.
//   node browse.mjs http://127.0.0.1:8080 CHROMIUM [SCREENSHOT-FOLDER]
import { chromium } from "playwright-core";

const [url, executablePath, folder] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
const context = await browser.newContext({ locale: "zh-CN", viewport: { width: 1280, height: 800 } });
const page = await context.newPage();
const told = { problems: [], outside: [] };
page.on("pageerror", (error) => told.problems.push(String(error)));
page.on("console", (message) => message.type() === "error" && told.problems.push(message.text()));
page.on("request", (request) => request.url().startsWith(url) || request.url().startsWith("data:") ||
  told.outside.push(request.url()));
const shoot = async (name) => folder && page.screenshot({ path: `${folder}/${name}.png` });
const answer = () => page.locator(".message.assistant .body").last();
const idle = () => page.waitForSelector("#send:not([hidden])");
const send = async (text) => { await page.fill("#input", text); await page.press("#input", "Enter"); };

await page.goto(url);
await page.waitForSelector("#model option", { state: "attached" });
told.language = await page.textContent("#send");
told.temperature = await page.inputValue("#temperature");
await page.fill("#temperature", "0");
await send("写一首题为《春望》的五言律诗。");
await page.waitForSelector(".message.assistant .body:not(:empty)");
await idle();
told.first = await answer().innerText();
told.facts = await page.textContent(".message.assistant .facts");
await shoot("desktop");

await page.click("[data-action=regenerate]");
await idle();
told.regenerated = await answer().innerText();

await page.fill("#max_tokens", "480");
await page.selectOption("#mode", "completion");
await page.route("**/v1/completions", (route) => {
  // Sixteen long answers in one, over a slow line: minutes of streaming, so that there is time to stop.
  const body = { ...route.request().postDataJSON(), ignore_eos: true, n: 16 };
  return route.continue({ postData: JSON.stringify(body) });
});
const line = await context.newCDPSession(page);
const setLine = (bytesPerSecond) => line.send("Network.emulateNetworkConditions",
  { offline: false, latency: 0, downloadThroughput: bytesPerSecond, uploadThroughput: -1 });
await line.send("Network.enable");
await setLine(20000);
await send("春眠不觉晓");
await page.waitForFunction(() => (document.querySelectorAll(".message.assistant .body")[1]?.textContent.length ?? 0) > 3);
await page.click("#stop");
await idle();
await setLine(-1);
told.stoppedFacts = await page.locator(".message.assistant .facts").last().textContent();
told.stoppedLength = (await answer().innerText()).length;
await page.waitForTimeout(300);
told.stillThatLong = (await answer().innerText()).length === told.stoppedLength;

await page.click("#new");
await page.selectOption("#mode", "chat");
const hostile = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>\n\n```js\n<b>code</b>\n```\n**bold** [a](javascript:hacked=3)";
await page.route("**/v1/chat/completions", (route) => route.fulfill({
  contentType: "text/event-stream",
  body: [{ choices: [{ index: 0, delta: { content: hostile } }] }, { choices: [{ index: 0, delta: {}, finish_reason: "stop" }] }]
    .map((event) => `data: ${JSON.stringify(event)}\n\n`).join("") + "data: [DONE]\n\n" }));
await send("<i>hello</i>");
await page.waitForSelector(".message.assistant .body strong");
await idle();
told.hostileText = await answer().innerText();
told.hostileElements = await page.locator(".message script, .message img, .message i, .message b, .message a").count();
told.hacked = await page.evaluate(() => window.hacked ?? null);
await shoot("hostile");

await page.click("#clear");
told.cut = await page.locator(".cut").count();
await page.reload();
await page.waitForSelector(".message.assistant .body strong");
told.conversationsAfterReload = await page.locator("#conversations li").count();
await page.locator("#conversations li button:first-child").nth(1).click();
told.firstAfterReload = await page.locator(".message.assistant .body").first().innerText();

await page.locator("[data-action=edit]").first().click();
told.edited = await page.inputValue("#input");
await page.click("#language");
told.english = await page.textContent("#send");

await page.setViewportSize({ width: 390, height: 844 });
await page.emulateMedia({ colorScheme: "dark" });
await page.locator("#menu").click();
await page.locator("#conversations li button:first-child").first().click();
told.sideways = await page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth);
await shoot("phone");
await page.locator("#settings-toggle").click();
await shoot("phone-settings");
await browser.close();
console.log(JSON.stringify(told));
