"use strict";
// Draws the figures that the page carries as data, and what moves on every page.
const read = (id) => JSON.parse(document.getElementById(id).textContent);
const figures = read("figures");
const root = document.documentElement;
const hidden = {}; // by figure: names that are switched off
// By figure, what its page adds: `prepare(figure, width)` before it is drawn, `ready(div)` once
// it is there.
const hooks = {};
const finger = matchMedia("(pointer: coarse)");
const PAPER = { full: 672, half: 318, third: 206 }; // CSS pixels within the margins of A4

// -- drawing ---------------------------------------------------------------------------------

// Figures take their ink from the page, so both follow the reader's light or dark setting.
function inked(value, css) {
  if (typeof value === "string")
    return value.startsWith("var(--") ? css.getPropertyValue(value.slice(4, -1)).trim() : value;
  if (Array.isArray(value))
    return typeof value[0] === "object" && value[0] ? value.map((one) => inked(one, css)) : value;
  if (value && typeof value === "object")
    return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, inked(v, css)]));
  return value;
}

function draw(id) {
  const div = document.getElementById(id);
  const { data, layout, config } = inked(figures[id], getComputedStyle(root));
  const paper = root.classList.contains("paper");
  if (paper) layout.width = PAPER[div.dataset.width];
  layout.autosize = !paper;
  const shown = {
    data: data.map((trace) =>
      trace.meta === undefined ? trace : { ...trace, visible: !hidden[id]?.has(trace.meta) },
    ),
    layout,
  };
  hooks[id]?.prepare?.(shown, paper ? layout.width : div.clientWidth);
  // A finger on a figure scrolls the page.
  for (const axis of Object.values(layout))
    if (axis?.fixedrange === false) axis.fixedrange = finger.matches;
  const isNew = !div.on;
  Plotly.react(div, shown.data, layout, {
    responsive: !paper,
    displayModeBar: false,
    displaylogo: false,
    ...config,
  });
  if (isNew) hooks[id]?.ready?.(div);
}

const drawAll = () => Object.keys(figures).forEach(draw);

// -- switches --------------------------------------------------------------------------------

const isOn = (button) => button.getAttribute("aria-pressed") === "true";
for (const legend of document.querySelectorAll(".legend")) {
  const ids = legend.dataset.figures.split(" ");
  const buttons = [...legend.querySelectorAll("button")];
  const set = (button, on) => {
    button.setAttribute("aria-pressed", on);
    const off = buttons.filter((one) => !isOn(one)).map((one) => one.dataset.name);
    for (const id of ids) hidden[id] = new Set(off);
  };
  for (const button of buttons) {
    set(button, isOn(button));
    button.addEventListener("click", () => {
      set(button, !isOn(button));
      ids.forEach(draw);
    });
    // Twice: this one alone, or all again.
    button.addEventListener("dblclick", () => {
      const isAlone = isOn(button) && buttons.every((one) => one === button || !isOn(one));
      for (const one of buttons) set(one, isAlone || one === button);
      ids.forEach(draw);
    });
  }
}

// -- dark, light and paper -------------------------------------------------------------------

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
for (const [event, isPaper] of [["beforeprint", true], ["afterprint", false]])
  addEventListener(event, () => {
    root.classList.toggle("paper", isPaper);
    drawAll();
  });
