// What moves on the report: the map, the card of a photo, and whose photos are shown.
const images = read("images");
let stretch = figures.map.layout.meta.factor;
let zoomed = null; // ranges of the map's axes, once the reader has changed them

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

// -- the map ---------------------------------------------------------------------------------

function stretched(trace) {
  if (trace.name !== "arrows") return trace;
  const longer = (column) =>
    column.map((one, i) => (i % 3 === 1 ? column[i - 1] + stretch * (one - column[i - 1]) : one));
  return { ...trace, x: longer(trace.x), y: longer(trace.y) };
}

hooks.map = {
  prepare(shown, width) {
    const { layout } = shown;
    shown.data = shown.data.map(stretched);
    layout.height = Math.max(300, Math.min(width * layout.meta.aspect + 30, 0.85 * innerHeight));
    if (zoomed) {
      layout.xaxis.range = zoomed.x;
      layout.yaxis.range = zoomed.y;
    }
    // A finger scrolls the page over the map until the map is zoomed into.
    layout.dragmode = finger.matches && !zoomed ? false : "pan";
  },
  ready(div) {
    withCards(div);
    div.on("plotly_relayout", (change) => {
      if ("xaxis.range[0]" in change)
        zoomed = { x: [...div.layout.xaxis.range], y: [...div.layout.yaxis.range] };
    });
  },
};

const factors = document.querySelectorAll(".stretch button");
for (const button of factors) {
  button.setAttribute("aria-pressed", Number(button.dataset.factor) === stretch);
  button.addEventListener("click", () => {
    stretch = Number(button.dataset.factor);
    choose(factors, button);
    draw("map");
  });
}

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
addEventListener("resize", () => draw("map"));

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
  const isRight = event.clientX + 18 + width < innerWidth;
  const left = isRight ? event.clientX + 18 : event.clientX - width - 18;
  card.style.left = `${Math.max(6, Math.min(left, innerWidth - width - 6))}px`;
  const above = event.clientY - height / 2;
  card.style.top = `${Math.max(6, Math.min(above, innerHeight - height - 6))}px`;
}

function hide() {
  card.classList.remove("shown");
}

function withCards(div) {
  const point = ({ points, event }) => {
    const found = points.find((one) => one.customdata !== undefined);
    if (found) show(found.customdata, event);
  };
  div.on("plotly_hover", point);
  div.on("plotly_click", point); // a finger hovers over nothing
  div.on("plotly_unhover", hide);
}

for (const id of ["near-positions", "near-rotations"]) hooks[id] = { ready: withCards };
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
