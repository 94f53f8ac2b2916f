// The chat page of a gateway that wants API keys, in headless Chromium; writes what it saw as JSON.
//   node enter_key.mjs http://127.0.0.1:8080 CHROMIUM KEY
import { chromium } from "playwright-core";

const [url, executablePath, key] = process.argv.slice(2);
const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
const context = await browser.newContext({ locale: "en-US", viewport: { width: 390, height: 844 } });
const page = await context.newPage();
const told = {};
const notice = () => page.textContent("#notice");
const noticed = (before) => page.waitForFunction((text) => document.getElementById("notice").textContent !== text, before);

await page.goto(url);
await noticed("");
told.without = await notice();
told.keyVisible = await page.locator("#key").isVisible();
told.focus = await page.evaluate(() => document.activeElement.id);
await page.fill("#key", "yt-wrong");
await page.press("#key", "Tab");
await noticed(told.without);
told.wrong = await notice();
await page.fill("#key", key);
await page.press("#key", "Tab");
await page.waitForSelector("#model option", { state: "attached" });
told.right = await notice();
await page.reload();
await page.waitForSelector("#model option", { state: "attached" });
told.stored = await page.evaluate(() => Object.values(localStorage).join());
await page.fill("#input", "春");
await page.press("#input", "Enter");
await page.waitForSelector(".message.assistant .body:not(:empty)");
await page.waitForSelector("#send:not([hidden])");
told.answer = await page.locator(".message.assistant .body").last().innerText();
await browser.close();
console.log(JSON.stringify(told));
