// Markdown to DOM nodes: paragraphs, headings, lists, code, emphasis. Text becomes text nodes only, so whatever a
// model writes, it can add no element, attribute or address of its own.
"use strict";

function inlineNodes(text) {
  const nodes = [];
  const pattern = /`([^`\n]+)`|\*\*([^*\n]+)\*\*|\*([^*\s][^*\n]*)\*/g;
  let last = 0;
  for (let match; (match = pattern.exec(text)) !== null;) {
    nodes.push(document.createTextNode(text.slice(last, match.index)));
    const tag = match[1] !== undefined ? "code" : match[2] !== undefined ? "strong" : "em";
    const node = document.createElement(tag);
    node.textContent = match[1] ?? match[2] ?? match[3];
    nodes.push(node);
    last = pattern.lastIndex;
  }
  nodes.push(document.createTextNode(text.slice(last)));
  return nodes;
}

async function copyText(text) {
  if (navigator.clipboard) {
    return navigator.clipboard.writeText(text);
  }
  // Browsers offer it to HTTPS and localhost only.
  const back = document.activeElement;
  const area = document.createElement("textarea");
  area.className = "unseen";
  area.readOnly = true;  // or a phone opens its keyboard
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
  back.focus();
}

function codeBlock(lines, copyLabel) {
  const block = document.createElement("pre");
  const code = document.createElement("code");
  code.textContent = lines.join("\n");
  block.append(code);
  if (copyLabel) {
    const copy = document.createElement("button");
    copy.textContent = copyLabel;
    copy.className = "copy-code";
    copy.addEventListener("click", () => copyText(code.textContent));
    block.prepend(copy);
  }
  return block;
}

// The nodes of `text`. An unclosed code fence, as in an answer that is still coming, runs to the end.
function markdownNodes(text, copyLabel) {
  const nodes = [];
  const lines = text.split("\n");
  let paragraph = null;
  let list = null;
  const endParts = () => { paragraph = null; list = null; };
  for (let i = 0; i < lines.length; ++i) {
    const line = lines[i];
    const fence = /^\s*```/.test(line);
    const heading = /^(#{1,6})\s+(.*)$/.exec(line);
    const item = /^\s*(?:([-*+])|(\d+)[.)])\s+(.*)$/.exec(line);
    if (fence) {
      const code = [];
      for (++i; i < lines.length && !/^\s*```\s*$/.test(lines[i]); ++i) {
        code.push(lines[i]);
      }
      nodes.push(codeBlock(code, copyLabel));
      endParts();
    } else if (heading) {
      const node = document.createElement("h" + Math.min(6, heading[1].length + 2));
      node.append(...inlineNodes(heading[2]));
      nodes.push(node);
      endParts();
    } else if (item) {
      const tag = item[1] ? "UL" : "OL";
      if (list === null || list.tagName !== tag) {
        list = document.createElement(tag);
        if (item[2]) {
          list.start = Number(item[2]);
        }
        nodes.push(list);
      }
      const entry = document.createElement("li");
      entry.append(...inlineNodes(item[3]));
      list.append(entry);
      paragraph = null;
    } else if (line.trim() === "") {
      endParts();
    } else {
      if (paragraph === null) {
        paragraph = document.createElement("p");
        nodes.push(paragraph);
        list = null;
      } else {
        paragraph.append(document.createElement("br"));
      }
      paragraph.append(...inlineNodes(line));
    }
  }
  return nodes;
}
