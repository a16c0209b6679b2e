"use strict";

// One viewer: all pictures are in the page, one of them shown; the poses are paths over it.
function view(viewer) {
  const data = JSON.parse(viewer.querySelector("script").textContent);
  const images = viewer.querySelectorAll("img");
  const stage = viewer.querySelector(".stage");
  const slider = viewer.querySelector("input[type=range]");
  const output = viewer.querySelector("output");
  const play = viewer.querySelector("button");
  const checked = (name) => viewer.querySelector(`input[name=${name}]`).checked;
  let timer = null;

  function draw() {
    const now = slider.valueAsNumber;
    const [width, height] = data.sizes[now];
    images.forEach((image, i) => { image.hidden = i !== now; });
    stage.style.setProperty("--ratio", width / height);
    // Pixel centres lie at integers, so the picture begins half a pixel before 0.
    stage.querySelector("svg").setAttribute("viewBox", `-0.5 -0.5 ${width} ${height}`);
    output.textContent = `frame ${data.frames[now]}`;
    slider.setAttribute("aria-valuetext", output.textContent);
    const poses = { before: data.before[now], after: data.after[now] };
    const changed = poses.before.map((a, k) => moved(a, poses.after[k], data.changed * Math.max(width, height)));
    const wanted = changed.map((change) => change || !checked("only"));
    for (const [name, joints] of Object.entries(poses)) {
      const group = stage.querySelector(`g.${name}`);
      group.toggleAttribute("hidden", !checked(name));
      const limbs = data.limbs.filter(([a, b]) => joints[a] && joints[b] && (wanted[a] || wanted[b]));
      const dots = joints.map((joint, k) => (joint && wanted[k] ? `M${joint}h0` : ""));
      const set = (paths, d) => group.querySelectorAll(paths).forEach((path) => path.setAttribute("d", d));
      set(".limbs", limbs.map(([a, b]) => `M${joints[a]}L${joints[b]}`).join(""));
      set(".joints", dots.join(""));
      group.querySelectorAll(".joint").forEach((path, k) => {
        path.setAttribute("d", dots[k]);
        const likelihood = name === "after" && data.likelihood ? data.likelihood[now][k] : 1;
        path.style.opacity = 0.25 + 0.75 * likelihood;
      });
    }
  }

  function go(frame) {
    slider.value = (frame + images.length) % images.length;
    draw();
  }

  function run(on) {
    clearInterval(timer);
    timer = on ? setInterval(() => go(slider.valueAsNumber + 1), 125) : null;
    play.textContent = on ? "Pause" : "Play";
  }

  play.addEventListener("click", () => run(timer === null));
  slider.addEventListener("input", () => { run(false); draw(); });
  viewer.addEventListener("change", draw);
  viewer.step = (by) => { run(false); go(slider.valueAsNumber + by); };
  draw();
}

// A joint that only one of the poses has is changed too.
function moved(a, b, least) {
  return a && b ? Math.hypot(a[0] - b[0], a[1] - b[1]) > least : Boolean(a) !== Boolean(b);
}

const viewers = document.querySelectorAll(".viewer");
viewers.forEach(view);

// Arrow keys go to the viewer that has the focus; to the first one where nothing has it.
document.addEventListener("keydown", (event) => {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  const idle = event.target === document.body;
  const viewer = idle ? viewers[0] : event.target.closest(".viewer");
  if (!by || !viewer || event.altKey || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  viewer.step(by);
});
