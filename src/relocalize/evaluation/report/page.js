"use strict";
// Draws the figures that the page carries as data, and the little that moves on it.
const read = (id) => JSON.parse(document.getElementById(id).textContent);
const figures = read("figures");
const images = read("images");
const root = document.documentElement;
const dark = matchMedia("(prefers-color-scheme: dark)");
const finger = matchMedia("(pointer: coarse)");
const hidden = {}; // by figure: localizers that are switched off
let stretch = figures.map.layout.meta.factor;
let zoomed = null; // ranges of the map's axes, once the reader has changed them
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

function stretched(trace) {
  if (trace.name !== "arrows") return trace;
  const longer = (column) =>
    column.map((one, i) => (i % 3 === 1 ? column[i - 1] + stretch * (one - column[i - 1]) : one));
  return { ...trace, x: longer(trace.x), y: longer(trace.y) };
}

function draw(id) {
  const drawn = inked(figures[id], getComputedStyle(root));
  drawn.data = drawn.data.map((trace) => {
    const off = hidden[id]?.has(trace.meta);
    return stretched(trace.meta === undefined ? trace : { ...trace, visible: !off });
  });
  const layout = drawn.layout;
  const div = document.getElementById(id);
  const paper = root.classList.contains("paper");
  if (paper) layout.width = PAPER[div.dataset.width];
  const width = paper ? layout.width : div.clientWidth;
  if (id === "map") {
    layout.height = Math.max(300, Math.min(width * layout.meta.aspect + 30, 0.85 * innerHeight));
    if (zoomed) {
      layout.xaxis.range = zoomed.x;
      layout.yaxis.range = zoomed.y;
    }
    // A finger scrolls the page over the map until the map is zoomed into.
    layout.dragmode = finger.matches && !zoomed ? false : "pan";
  }
  layout.autosize = !paper;
  return Plotly.react(div, drawn.data, layout, {
    responsive: !paper,
    displayModeBar: false,
    scrollZoom: id === "map",
    doubleClick: false,
  });
}

const drawAll = () => Object.keys(figures).forEach(draw);

// -- switches --------------------------------------------------------------------------------

for (const legend of document.querySelectorAll(".legend")) {
  const ids = legend.dataset.figures.split(" ");
  for (const button of legend.querySelectorAll("button")) {
    const name = button.dataset.name;
    const set = (on) => {
      button.setAttribute("aria-pressed", on);
      for (const id of ids) {
        hidden[id] ??= new Set();
        if (on) hidden[id].delete(name);
        else hidden[id].add(name);
      }
    };
    set(button.getAttribute("aria-pressed") === "true");
    button.addEventListener("click", () => {
      set(button.getAttribute("aria-pressed") !== "true");
      ids.forEach(draw);
    });
  }
}

function choose(buttons, chosen) {
  for (const one of buttons) one.setAttribute("aria-pressed", one === chosen);
}

const tabs = document.querySelectorAll(".tabs button");
for (const tab of tabs)
  tab.addEventListener("click", () => {
    choose(tabs, tab);
    for (const panel of document.querySelectorAll(".panel"))
      panel.classList.toggle("away", panel.dataset.panel !== tab.dataset.panel);
  });

const factors = document.querySelectorAll(".stretch button");
for (const button of factors) {
  button.setAttribute("aria-pressed", Number(button.dataset.factor) === stretch);
  button.addEventListener("click", () => {
    stretch = Number(button.dataset.factor);
    choose(factors, button);
    draw("map");
  });
}

// -- the map ---------------------------------------------------------------------------------

const map = document.getElementById("map");
for (const button of document.querySelectorAll(".zoom button"))
  button.addEventListener("click", () => {
    const by = Number(button.dataset.by);
    const about = ({ range: [low, high] }) => {
      const [middle, half] = [(low + high) / 2, ((high - low) / 2) * by];
      return [middle - half, middle + half];
    };
    zoomed = by ? { x: about(map.layout.xaxis), y: about(map.layout.yaxis) } : null;
    draw("map");
  });
// Without a key the wheel scrolls the page, as everywhere else on it.
map.addEventListener(
  "wheel",
  (event) => {
    if (!event.ctrlKey && !event.metaKey) event.stopPropagation();
  },
  { capture: true },
);

// -- the card of a photo -----------------------------------------------------------------------

const card = document.getElementById("card");
let shownAt = 0; // how far the page was scrolled then

function element(kind, text) {
  const made = document.createElement(kind);
  made.textContent = text;
  return made;
}

function show(index, event) {
  const { names, thumbs, near, said, localizers } = images;
  card.replaceChildren();
  if (thumbs[index]) {
    const photo = document.createElement("img");
    photo.src = thumbs[index];
    photo.alt = names[index];
    card.append(photo);
  }
  card.append(element("b", names[index]));
  localizers.forEach(({ name, color }, which) => {
    const row = document.createElement("div");
    const dot = element("span", "");
    dot.className = "dot";
    dot.style.background = color;
    row.append(dot, element("span", name), element("span", said[index][which]));
    card.append(row);
  });
  const last = element("span", near[index]);
  last.className = "soft";
  card.append(last);
  card.classList.add("shown");
  shownAt = scrollY;
  const { width, height } = card.getBoundingClientRect();
  const beside = event.clientX + 18 + width < innerWidth;
  const left = beside ? event.clientX + 18 : event.clientX - width - 18;
  card.style.left = `${Math.max(6, Math.min(left, innerWidth - width - 6))}px`;
  const above = event.clientY - height / 2;
  card.style.top = `${Math.max(6, Math.min(above, innerHeight - height - 6))}px`;
}

function hide() {
  card.classList.remove("shown");
}

function withCards(id) {
  const div = document.getElementById(id);
  if (!div) return;
  const point = ({ points, event }) => {
    const found = points.find((one) => one.customdata !== undefined);
    if (found) show(found.customdata, event);
  };
  div.on("plotly_hover", point);
  div.on("plotly_click", point); // a finger hovers over nothing
  div.on("plotly_unhover", hide);
  if (id === "map")
    div.on("plotly_relayout", (change) => {
      if ("xaxis.range[0]" in change)
        zoomed = { x: [...div.layout.xaxis.range], y: [...div.layout.yaxis.range] };
    });
}

// -- life --------------------------------------------------------------------------------------

drawAll();
["map", "near-positions", "near-rotations"].forEach(withCards);
dark.addEventListener("change", drawAll);
addEventListener("pointerdown", ({ target }) => {
  if (!target.closest(".js-plotly-plot")) hide();
});
addEventListener(
  "scroll",
  () => {
    if (Math.abs(scrollY - shownAt) > 40) hide(); // a finger that taps trembles
  },
  { passive: true },
);
addEventListener("resize", () => draw("map"));
addEventListener("beforeprint", () => {
  root.classList.add("paper");
  drawAll();
});
addEventListener("afterprint", () => {
  root.classList.remove("paper");
  drawAll();
});
