"use strict";

/* gradio's slider over two pictures knows the mouse and touch; arrow keys move its handle as a mouse would. */

const STEPS = { ArrowLeft: -0.02, ArrowRight: 0.02, Home: -1, End: 1 };

function drag(handle, distance) {
  const { left, width, top, height } = handle.getBoundingClientRect();
  const at = { bubbles: true, cancelable: true, view: window, clientX: left + width / 2, clientY: top + height / 2 };
  handle.dispatchEvent(new MouseEvent("mousedown", at));
  window.dispatchEvent(new MouseEvent("mousemove", { ...at, clientX: at.clientX + distance }));
  window.dispatchEvent(new MouseEvent("mouseup", { ...at, clientX: at.clientX + distance }));
}

function tell(handle) {
  const [inner, outer] = [handle, handle.parentElement].map((element) => element.getBoundingClientRect());
  const part = (inner.left + inner.width / 2 - outer.left) / (outer.width || 1);
  handle.setAttribute("aria-valuenow", Math.round(100 * Math.min(Math.max(part, 0), 1)));
}

new MutationObserver(() => {
  for (const handle of document.querySelectorAll("#slider [data-testid=slider]:not([tabindex])")) {
    handle.tabIndex = 0;
    handle.setAttribute("role", "slider");
    handle.setAttribute("aria-label", "Where before ends and after begins; arrow keys move it");
    handle.addEventListener("keydown", (event) => {
      if (!(event.key in STEPS)) return;
      event.preventDefault();
      drag(handle, STEPS[event.key] * handle.parentElement.clientWidth);
    });
    const later = () => requestAnimationFrame(() => tell(handle));
    for (const end of ["mouseup", "touchend"]) window.addEventListener(end, later);
    later();
  }
}).observe(document, { childList: true, subtree: true });
