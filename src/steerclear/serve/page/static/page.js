// What the pages do beside htmx: keys, drag and drop, sliders, and telling screen readers what has changed.
"use strict";

const csrf = document.querySelector('meta[name="csrf"]');
document.addEventListener("htmx:config:request", (event) => {
  if (csrf) event.detail.ctx.request.headers["X-CSRF-Token"] = csrf.content;
});

// ── keys of the reviewers' queue: each presses the button that names it; they can be switched off ──────────────
const keys = document.getElementById("keys");
const KEYS_OFF = "steerclear-keys-off";
if (keys) {
  keys.checked = localStorage.getItem(KEYS_OFF) === null;
  keys.addEventListener("change", () => {
    if (keys.checked) localStorage.removeItem(KEYS_OFF);
    else localStorage.setItem(KEYS_OFF, "yes");
  });
}
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  if (localStorage.getItem(KEYS_OFF) !== null) return;
  if (event.target.closest("textarea, select, input:not([type=checkbox]), [contenteditable]")) return;
  const pressed = event.key.toLowerCase();
  const button = [...document.querySelectorAll("[data-key]")].find(
    (candidate) => candidate.dataset.key === pressed && candidate.offsetParent !== null,
  );
  if (button) {
    event.preventDefault();
    button.click();
  }
});

// ── drag and drop: a form that holds a file field takes what is dropped on it ────────────────────────────────
for (const form of document.querySelectorAll("form.drop")) {
  const field = form.querySelector("input[type=file]");
  const over = (yes) => (event) => {
    event.preventDefault();
    form.classList.toggle("over", yes);
  };
  form.addEventListener("dragover", over(true));
  form.addEventListener("dragleave", over(false));
  form.addEventListener("drop", (event) => {
    over(false)(event);
    if (!event.dataTransfer.files.length) return;
    const files = new DataTransfer();
    for (const file of field.multiple ? event.dataTransfer.files : [event.dataTransfer.files[0]]) {
      files.items.add(file);
    }
    field.files = files.files;
    if ("submit" in form.dataset) form.requestSubmit();
  });
}

// ── a slider beside a number field ──────────────────────────────────────────────────────────────────────────
for (const slide of document.querySelectorAll("[data-mirrors]")) {
  const field = document.getElementById(slide.dataset.mirrors);
  slide.hidden = false;
  slide.addEventListener("input", () => (field.value = slide.value));
  field.addEventListener("input", () => (slide.value = field.value));
}

// ── before and after: the slider says where it stands ───────────────────────────────────────────────────────
function describe(slider) {
  slider.setAttribute("role", "slider");
  slider.setAttribute("aria-valuemin", "0");
  slider.setAttribute("aria-valuemax", "100");
  const say = () => slider.setAttribute("aria-valuenow", String(Math.round(slider.value)));
  say();
  slider.addEventListener("slide", say);
}
const describeAll = (root) => root.querySelectorAll("img-comparison-slider:not([role])").forEach(describe);
describeAll(document);

// ── the result of a request: a change of its state is announced, its progress is not ────────────────────────
const run = document.getElementById("run");
const announced = document.getElementById("announced");
if (run && announced) {
  let last = run.querySelector("[data-says]")?.textContent;
  new MutationObserver(() => {
    describeAll(run);
    const says = run.querySelector("[data-says]")?.textContent;
    if (says && says !== last) {
      announced.textContent = says;
      last = says;
    }
  }).observe(run, { childList: true, subtree: true, characterData: true });
}
