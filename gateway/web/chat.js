// The chat page: conversations live in this browser (store.js), answers stream from the gateway's own API.
"use strict";

const TEXTS = {
  en: {
    newConversation: "New conversation", send: "Send", stop: "Stop", clearContext: "Clear context",
    mode: "Mode", modeChat: "Chat (instruction models)", modeCompletion: "Completion (base models)",
    systemPrompt: "System prompt", temperature: "Temperature", repetitionPenalty: "Repetition penalty",
    maxTokens: "Longest answer (tokens)", apiKey: "API key", wantsKey: "This server wants an API key: enter it among the settings.",
    badKey: "The API key is not valid here, or has expired.", inputHint: "Write here. Enter sends, Shift+Enter is a new line.",
    copy: "Copy", edit: "Edit", regenerate: "Regenerate", remove: "Delete", untitled: "New",
    cut: "The model does not see what is above.", tokens: "tokens", perSecond: "tokens/s", notReady: "No model is ready yet.",
    cutShort: "cut at the longest answer", language: "中文",
  },
  zh: {
    newConversation: "新对话", send: "发送", stop: "停止", clearContext: "清除上下文",
    mode: "模式", modeChat: "对话（指令模型）", modeCompletion: "续写（基座模型）",
    systemPrompt: "系统提示", temperature: "温度", repetitionPenalty: "重复惩罚",
    maxTokens: "最长回答（token）", apiKey: "API 密钥", wantsKey: "此服务需要 API 密钥：请在设置中输入。",
    badKey: "API 密钥无效或已过期。", inputHint: "在此输入。回车发送，Shift+回车换行。",
    copy: "复制", edit: "编辑", regenerate: "重新生成", remove: "删除", untitled: "新对话",
    cut: "以上内容模型不再看到。", tokens: "个 token", perSecond: "token/秒", notReady: "还没有可用的模型。",
    cutShort: "已达最长回答", language: "English",
  },
};
// The reference's web demo starts from these.
const DEFAULTS = { temperature: 0.2, top_k: 40, top_p: 0.9, repetition_penalty: 1.1, max_tokens: 512, system: "" };
const NUMBERS = ["temperature", "top_k", "top_p", "repetition_penalty", "max_tokens"];
const FIELDS = [...NUMBERS, "system"];
const CURRENT_STORE = "yangtuo.chat.current";  // of the tab
const KEY_STORE = "yangtuo.chat.key";  // of the session: gone when the tab is closed

const $ = (id) => document.getElementById(id);
const state = { language: navigator.language.startsWith("zh") ? "zh" : "en", settings: { ...DEFAULTS } };
let conversations = [];
let current = null;  // the conversation that is shown
let models = [];
let running = null;  // {controller, conversation} while an answer streams

const t = (name) => TEXTS[state.language][name];
const notice = (text) => { $("notice").textContent = text; };

function element(tag, properties, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

function button(name, act) {
  const node = element("button", { type: "button", textContent: t(name), onclick: act });
  node.dataset.action = name;
  return node;
}

// --- what is kept

function trying(act) {
  try {
    return act();
  } catch (error) {
    notice(String(error));
    return null;
  }
}

// Takes over what other tabs did to the conversations.
function refresh() {
  const id = current?.id ?? trying(() => sessionStorage.getItem(CURRENT_STORE));
  conversations = trying(() => loadConversations(conversations, running?.conversation)) ?? conversations;
  if (conversations.length === 0) {
    conversations.push(emptyConversation());
  }
  current = conversations.find((one) => one.id === id) ?? conversations[0];
}

function save(conversation) {
  trying(() => saveConversation(conversation));
  refresh();
}

function takeState(saved) {
  state.language = saved?.language ?? state.language;
  Object.assign(state.settings, saved?.settings);
}

// Where a field does not hold what it held by `before`, somebody is typing.
function fillSettings(before) {
  for (const name of FIELDS) {
    if (!before || $(name).value === String(before[name])) {
      $(name).value = state.settings[name];
    }
  }
}

// --- what is shown

function fillBody(body, message) {
  if (message.role === "assistant" && !message.completion) {
    body.replaceChildren(...markdownNodes(message.content, t("copy")));
  } else {
    body.textContent = message.content;
  }
}

function messageNode(message, index) {
  const body = element("div", { className: "body" });
  fillBody(body, message);
  const tools = element("div", { className: "tools" },
    button("copy", () => copyText(message.content)));
  if (message.role === "user") {
    tools.append(button("edit", () => edit(index)));
  } else if (!running && index === current.messages.length - 1) {
    tools.append(button("regenerate", () => regenerate()));
  }
  tools.append(element("span", { className: "facts", textContent: facts(message) }));
  const node = element("article", { className: "message " + message.role }, body, tools);
  node.classList.toggle("completion", Boolean(message.completion));
  node.classList.toggle("forgotten", index < (current.from ?? 0));
  return node;
}

function facts(message) {
  if (!message.usage) {
    return "";
  }
  const { prompt_tokens, completion_tokens } = message.usage;
  const rate = message.seconds > 0 ? (completion_tokens / message.seconds).toFixed(1) : "–";
  const cut = message.finish === "length" ? ` · ${t("cutShort")}` : "";
  return `${prompt_tokens} + ${completion_tokens} ${t("tokens")} · ${rate} ${t("perSecond")}${cut}`;
}

function showMessages() {
  const nodes = [];
  current.messages.forEach((message, index) => {
    if (index > 0 && index === current.from) {
      nodes.push(element("div", { className: "cut", textContent: t("cut") }));
    }
    nodes.push(messageNode(message, index));
  });
  if (current.from > 0 && current.from >= current.messages.length) {
    nodes.push(element("div", { className: "cut", textContent: t("cut") }));
  }
  $("messages").replaceChildren(...nodes);
  $("messages").scrollTop = $("messages").scrollHeight;
}

function showConversations() {
  $("conversations").replaceChildren(...conversations.map((one) => {
    const open = element("button", {
      type: "button", textContent: one.title || t("untitled"),
      onclick: () => openConversation(one),
    });
    const remove = element("button", { type: "button", textContent: "×", title: t("remove"), onclick: () => removeConversation(one) });
    return element("li", { className: one === current ? "current" : "" }, open, remove);
  }));
  trying(() => sessionStorage.setItem(CURRENT_STORE, current.id));
}

function show() {
  document.documentElement.lang = state.language === "zh" ? "zh-CN" : "en";
  for (const node of document.querySelectorAll("[data-text]")) {
    node.textContent = t(node.dataset.text);
  }
  for (const node of document.querySelectorAll("[data-hint]")) {
    node.placeholder = t(node.dataset.hint);
  }
  $("language").textContent = t("language");
  showConversations();
  showMessages();
}

function setRunning(is) {
  $("send").hidden = is;
  $("stop").hidden = !is;
}

// --- what the user does

function openConversation(one) {
  stop();
  current = one;
  $("conversations-panel").classList.remove("open");
  show();
}

function startConversation() {
  conversations.unshift(emptyConversation());
  openConversation(conversations[0]);
}

function removeConversation(one) {
  stop();
  trying(() => removeEntry(one));
  const index = conversations.indexOf(one);
  conversations.splice(index, 1);
  if (one === current) {
    current = conversations[Math.min(index, conversations.length - 1)];
  }
  refresh();
  show();
}

function clearContext() {
  current.from = current.messages.length;
  save(current);
  show();
}

function edit(index) {
  stop();
  $("input").value = current.messages[index].content;
  current.messages.length = index;
  current.from = Math.min(current.from ?? 0, index);
  save(current);
  show();
  $("input").focus();
}

function regenerate() {
  answer(current.messages.pop());
}

function send(event) {
  event.preventDefault();
  const text = $("input").value;
  if (running || text.trim() === "") {
    return;
  }
  $("input").value = "";
  current.messages.push({ role: "user", content: text });
  current.title ||= text.slice(0, 40);
  save(current);
  show();
  answer();
}

function stop() {
  running?.controller.abort();
}

// --- answers

function requestFor(messages) {
  const settings = Object.fromEntries(NUMBERS.map((name) => [name, Number(state.settings[name])]));
  const common = { ...settings, model: $("model").value, stream: true, stream_options: { include_usage: true } };
  if ($("mode").value === "completion") {
    return ["/v1/completions", { ...common, prompt: messages.map((message) => message.content).join("") }];
  }
  const list = messages.map(({ role, content }) => ({ role, content }));
  if (state.settings.system.trim() !== "") {
    list.unshift({ role: "system", content: state.settings.system });
  }
  return ["/v1/chat/completions", { ...common, messages: list }];
}

// The JSON of each event; ends with the stream.
async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) {
      return;
    }
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      if (part.startsWith("data: ") && part !== "data: [DONE]") {
        yield JSON.parse(part.slice(6));
      }
    }
  }
}

function authorization() {
  const key = $("key").value.trim();
  // Anything else cannot be in a header.
  return /^[\x21-\x7e]+$/.test(key) ? { Authorization: "Bearer " + key } : {};
}

// What to tell about a refusal; one for lack of a key leads to where it is entered.
async function explain(response) {
  if (response.status === 401) {
    $("settings").classList.add("open");
    $("key").focus();
    return t($("key").value ? "badKey" : "wantsKey");
  }
  const text = await response.text();
  let told = null;
  try {
    const body = JSON.parse(text);
    // `detail` is what --compat=demo says; a proxy says what it likes.
    told = body.error?.message ?? body.detail?.[0]?.msg ?? body.detail;
  } catch { /* not JSON */ }
  return typeof told === "string" ? told : `HTTP ${response.status} ${response.statusText}`;
}

// A function that shows what the message has by now, once a frame at most: a long answer is laid out anew
// each time, and the page has to hear the stop button in between.
function drawer(message) {
  let asked = false;
  return () => {
    if (asked) {
      return;
    }
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      if (current.messages.at(-1) !== message) {
        return;
      }
      const list = $("messages");
      const atEnd = list.scrollHeight - list.scrollTop - list.clientHeight < 80;
      fillBody(list.querySelector("article:last-of-type .body"), message);
      if (atEnd) {
        list.scrollTop = list.scrollHeight;
      }
    });
  };
}

// Asks for an answer to the last message; `old`, if any, stays should none come.
async function answer(old) {
  const here = current;
  // A cleared context begins no later than with what is asked.
  here.from = Math.min(here.from ?? 0, here.messages.length - 1);
  const [path, body] = requestFor(here.messages.slice(here.from));
  const message = { role: "assistant", content: "", completion: path === "/v1/completions" };
  here.messages.push(message);
  const controller = new AbortController();
  running = { controller, conversation: here };
  setRunning(true);
  notice("");
  showMessages();
  const draw = drawer(message);
  const headers = { "Content-Type": "application/json", ...authorization() };
  let first = 0;
  try {
    const response = await fetch(path, { method: "POST", headers, body: JSON.stringify(body), signal: controller.signal });
    if (!response.ok) {
      throw new Error(await explain(response));
    }
    for await (const event of events(response)) {
      if (event.error) {
        throw new Error(event.error.message);
      }
      const choice = event.choices[0];
      const text = choice?.delta?.content ?? choice?.text ?? "";
      message.finish = choice?.finish_reason ?? message.finish;
      message.usage = event.usage ?? message.usage;
      if (text !== "") {
        first ||= performance.now();
        message.content += text;
        draw();
      }
      message.seconds = first ? (performance.now() - first) / 1000 : 0;
    }
  } catch (error) {
    if (error.name !== "AbortError") {
      notice(error.message);
    }
  }
  if (message.content === "") {
    here.messages = here.messages.flatMap((one) => one === message ? old ?? [] : one);
  }
  running = null;
  setRunning(false);
  $("statistics").textContent = facts(message);
  if (conversations.includes(here)) {
    save(here);
  }
  show();
}

// --- start

function showMode() {
  const model = models.find((one) => one.id === $("model").value);
  $("mode").value = model && !model.capabilities.includes("chat") ? "completion" : "chat";
}

async function loadModels() {
  try {
    const response = await fetch("/v1/models", { headers: authorization() });
    if (!response.ok) {
      throw new Error(await explain(response));
    }
    models = (await response.json()).data;
    $("model").replaceChildren(...models.map((model) => element("option", { value: model.id, textContent: model.id })));
    notice(models.length === 0 ? t("notReady") : "");
    showMode();
  } catch (error) {
    notice(error.message);
  }
}

for (const name of FIELDS) {
  $(name).addEventListener("change", () => {
    const bad = NUMBERS.includes(name) && ($(name).value === "" || !$(name).checkValidity());
    state.settings[name] = bad ? DEFAULTS[name] : $(name).value;
    $(name).value = state.settings[name];
    trying(() => saveState(state));
  });
}
$("composer").addEventListener("submit", send);
$("input").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    send(event);
  }
});
$("stop").addEventListener("click", stop);
$("clear").addEventListener("click", clearContext);
$("new").addEventListener("click", startConversation);
$("model").addEventListener("change", showMode);
$("key").addEventListener("change", () => {
  try {
    sessionStorage.setItem(KEY_STORE, $("key").value);
  } catch { /* it has to be entered again after a reload */ }
  loadModels();
});
$("menu").addEventListener("click", () => $("conversations-panel").classList.toggle("open"));
$("settings-toggle").addEventListener("click", () => $("settings").classList.toggle("open"));
$("language").addEventListener("click", () => {
  state.language = state.language === "zh" ? "en" : "zh";
  trying(() => saveState(state));
  show();
});
// Another tab saved something.
window.addEventListener("storage", ({ key, newValue }) => {
  if (key === STORE) {
    const before = { ...state.settings, language: state.language };
    takeState(parsed(newValue));
    fillSettings(before);
    if (state.language !== before.language) {
      show();
    }
    return;
  }
  const shown = current;
  refresh();
  showConversations();
  if (current !== shown) {
    showMessages();
  }
});
try {
  $("key").value = sessionStorage.getItem(KEY_STORE) ?? "";
} catch { /* no storage: no key yet */ }
takeState(trying(loadState));
fillSettings();
refresh();
show();
loadModels();
