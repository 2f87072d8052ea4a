"use strict";

/* Tables: rows change their order, those without a value stay last. */

const words = new Intl.Collator(undefined, { numeric: true });

function keyOf(row, column) {
  const cell = row.cells[column];
  if (!("value" in cell.dataset)) return cell.textContent;
  return cell.dataset.value === "" ? null : Number(cell.dataset.value);
}

function sort(table, head) {
  const column = head.cellIndex;
  const ascending = head.getAttribute("aria-sort") !== "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
  const rows = [...table.tBodies[0].rows].map((row) => ({ row, key: keyOf(row, column) }));
  rows.sort((first, second) => {
    const [a, b] = [first.key, second.key];
    if (a === null || b === null) return (a === null) - (b === null);
    const order = typeof a === "number" ? a - b : words.compare(a, b);
    return ascending ? order : -order;
  });
  table.tBodies[0].append(...rows.map(({ row }) => row));
}

for (const table of document.querySelectorAll("table.sortable")) {
  for (const head of table.tHead.rows[0].cells) {
    head.querySelector("button").addEventListener("click", () => sort(table, head));
  }
}

/* Pictures: two on top of each other, the upper one cut off at the slider. */

const scenes = JSON.parse(document.getElementById("data").textContent);
const viewer = document.getElementById("viewer");

function make(name, properties = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

function select(text, id) {
  const list = make("select", { id });
  return { list, label: make("label", { htmlFor: id }, text, list) };
}

function fill(list, names, wanted) {
  list.replaceChildren(...names.map((name, index) => make("option", { value: index }, name)));
  const found = names.indexOf(wanted);
  if (found >= 0) list.value = found;
  return found >= 0;
}

function view() {
  const scene = select("Image", "scene");
  const left = select("Left", "left");
  const right = select("Right", "right");
  const zoom = select("Size", "zoom");
  const under = make("img", { draggable: false });
  const over = make("img", { draggable: false });
  const handle = make("div", { className: "handle" });
  const frame = make("div", { className: "frame-of-two" }, under, over, handle);
  const names = make("div", { className: "names" }, make("span"), make("span"));
  const range = make("input", { type: "range", id: "slider", min: 0, max: 100, step: 1, value: 50 });
  const label = make("label", { htmlFor: "slider" }, "Where the left picture ends and the right one begins");
  const choices = make("div", { className: "choices" }, scene.label, left.label, right.label, zoom.label);
  viewer.replaceChildren(choices, names, frame, label, range);

  const names_of = (index) => scenes[index].choices.map((choice) => choice.label);
  const current = () => scenes[scene.list.value];

  function move() {
    over.style.clipPath = `inset(0 ${100 - range.value}% 0 0)`;
    handle.style.left = `${range.value}%`;
    range.setAttribute("aria-valuetext", `${range.value} percent ${names.firstChild.textContent}`);
  }

  function show() {
    const { title, width, height, choices: pictures } = current();
    const pair = [[over, left, names.firstChild], [under, right, names.lastChild]];
    for (const [picture, { list }, name] of pair) {
      const chosen = pictures[list.value];
      picture.src = chosen.src;
      picture.alt = `${title}: ${chosen.label}`;
      picture.className = chosen.repeated ? "repeated" : "";
      name.textContent = chosen.label;
    }
    const factor = Number(zoom.list.value) + 1;
    for (const element of [frame, names, range]) element.style.width = `${width * factor}px`;
    frame.style.aspectRatio = `${width} / ${height}`;
    frame.classList.toggle("enlarged", factor > 1);
    move();
  }

  function enter() {
    const [before, after] = [left, right].map(({ list }) => list.selectedOptions[0]?.textContent);
    const labels = names_of(scene.list.value);
    fill(left.list, labels, before);
    if (!fill(right.list, labels, after)) right.list.value = Math.min(1, labels.length - 1);
    show();
  }

  function drag(event) {
    const box = frame.getBoundingClientRect();
    range.value = Math.round((100 * (event.clientX - box.left)) / box.width);
    move();
  }

  frame.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    frame.setPointerCapture(event.pointerId);
    drag(event);
    range.focus({ preventScroll: true });
    event.preventDefault();
  });
  frame.addEventListener("pointermove", (event) => {
    if (frame.hasPointerCapture(event.pointerId)) drag(event);
  });
  range.addEventListener("input", move);
  scene.list.addEventListener("change", enter);
  for (const { list } of [left, right, zoom]) list.addEventListener("change", show);

  fill(scene.list, scenes.map(({ title }) => title));
  fill(zoom.list, ["1 : 1", "2 : 1", "3 : 1"], "2 : 1");
  enter();
}

if (viewer && scenes.length) view();
