"use strict";
(() => {
  const slices = [...document.getElementById("slice-data").content.children];
  const viewer = document.getElementById("viewer");
  const slider = document.getElementById("slice-slider");
  const stage = document.getElementById("slice-stage");
  const caption = document.getElementById("slice-caption");
  const picture = stage.querySelector("img");
  const layer = stage.querySelector(".layer");
  let at = 0;

  function show(wanted) {
    at = Math.min(Math.max(wanted, 0), slices.length - 1);
    const { dataset, children: [image, marks] } = slices[at];
    picture.src = image.getAttribute("src");
    picture.alt = caption.textContent = dataset.caption;
    layer.replaceChildren(document.importNode(marks, true));
    slider.value = at;
    slider.setAttribute("aria-valuetext", dataset.caption);
  }

  slider.addEventListener("input", () => show(Number(slider.value)));

  // Up is the next slice everywhere, as on any slider.
  const steps = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: 10, PageDown: -10, Home: -Infinity, End: Infinity };
  viewer.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || !(event.key in steps)) return;
    event.preventDefault();
    show(at + steps[event.key]);
  });

  // A mouse wheel comes in jumps of about 100 px, a touch pad in many small ones.
  let turned = 0;
  stage.addEventListener("wheel", (event) => {
    if (event.ctrlKey) return;
    event.preventDefault();
    turned += event.deltaY * (event.deltaMode ? 40 : 1);
    const whole = Math.trunc(turned / 40);
    if (!whole) return;
    turned = 0;
    show(at - Math.sign(whole));
  }, { passive: false });

  stage.addEventListener("click", () => slider.focus({ preventScroll: true }));

  for (const link of document.querySelectorAll("a[data-slice]")) {
    link.addEventListener("click", () => {
      show(slices.findIndex((slice) => slice.dataset.number === link.dataset.slice));
      slider.focus({ preventScroll: true });
    });
  }

  document.getElementById("no-slices").hidden = true;
  viewer.hidden = false;
  show(Number(slider.getAttribute("value")));
})();
