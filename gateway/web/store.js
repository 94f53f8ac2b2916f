// What the page keeps in this browser's localStorage: an entry with language and settings, and one for each
// conversation, so that a tab writes what it changed and nothing else. All of this may throw: a browser may refuse
// storage, or it may be full.
"use strict";

const STORE = "yangtuo.chat.1";
const entryOf = (id) => `${STORE}/${id}`;

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

// Ids sort by age. (crypto.randomUUID does not exist on plain HTTP.)
const newId = (time = Date.now()) => `${time}-${Math.random().toString(36).slice(2)}`;

// `saved` is what the conversation's entry holds as far as this tab knows; none yet.
const emptyConversation = () => ({ id: newId(), saved: undefined, title: "", messages: [] });

function saveConversation(one) {
  const { id, saved, ...content } = one;
  if (localStorage.getItem(entryOf(id)) !== (saved ?? null)) {
    // Another tab changed or removed it at the same time: what either has is kept, as two conversations.
    Object.assign(one, { id: newId(), saved: undefined });
  }
  const text = JSON.stringify(content);
  localStorage.setItem(entryOf(one.id), text);
  one.saved = text;
}

function removeEntry(one) {
  localStorage.removeItem(entryOf(one.id));
}

// All conversations, the newest first: of `mine`, those never saved and `busy`, which is being written, as they are;
// the others as they were saved last, by whichever tab.
function loadConversations(mine, busy) {
  const list = mine.filter((one) => one === busy || one.saved === undefined);
  for (const key of Object.keys(localStorage).filter((one) => one.startsWith(entryOf("")))) {
    const id = key.slice(entryOf("").length);
    const saved = localStorage.getItem(key);
    const known = mine.find((one) => one.id === id);
    if (!list.includes(known)) {
      list.push(known?.saved === saved ? known : { ...emptyConversation(), ...parsed(saved), id, saved });
    }
  }
  return list.sort((a, b) => (a.id < b.id ? 1 : -1));
}

function saveState({ language, settings }) {
  localStorage.setItem(STORE, JSON.stringify({ language, settings }));
}

// {language, settings}, or null where none was saved.
function loadState() {
  const state = parsed(localStorage.getItem(STORE));
  if (Array.isArray(state?.conversations)) {
    // Conversations were part of this entry once. It shrinks first: storage may not hold both.
    saveState(state);
    const now = Date.now();
    state.conversations.forEach((one, age) => one.messages.length > 0 && saveConversation({ ...one, id: newId(now - age) }));
  }
  return state;
}
