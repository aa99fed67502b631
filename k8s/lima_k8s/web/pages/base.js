"use strict";
const $ = (id) => document.getElementById(id);
const ENDED = "The command has ended. What was saved until then is kept; start it again to go on.";
const unreachable = new Error(ENDED);
let last = Promise.resolve();

// An answer that cannot be read is none: it was cut off, or something between us and the command
// wrote it.
async function call(action, body = {}) {
  let answer, value;
  try {
    answer = await fetch(action, {
      method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(body), keepalive: true,
    });
    value = await answer.json();
  } catch {
    throw unreachable;
  }
  if (!answer.ok) throw Object.assign(new Error(value?.error ?? ENDED), {refused: value?.refused === true});
  return value;
}

// Text is only ever set as text: what a model wrote can be no markup.
function element(tag, className, text) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function fill(bar, done, of) {
  bar.setAttribute("aria-valuemax", of);
  bar.setAttribute("aria-valuenow", Math.min(done, of));
  bar.firstElementChild.style.width = `${of ? Math.min(100, 100 * done / of) : 0}%`;
}

function warn(message) {
  $("alert").textContent = message ?? "";
  $("alert").hidden = !message;
}

// Acts run one after the other, so that quick keys are neither lost nor mixed up.
function guarded(act) {
  last = last.then(act).then(() => warn(), (error) => warn(error.message));
}
