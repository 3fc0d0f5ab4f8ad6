// Fetches the page again and puts its main part in place. Without this script the page is complete
// and reloads itself more slowly.
"use strict";
(() => {
  const PAUSE = 5000;
  const PATIENCE = 12000;
  const live = document.getElementById("live");
  const main = document.getElementById("main");
  let lastGood = live.innerHTML;

  // A link that has the focus keeps it, though it is a new element afterwards.
  const focused = () => {
    const here = document.activeElement;
    return main.contains(here) ? here.getAttribute("href") : null;
  };
  const focusAgain = (href) => {
    if (href === null) return;
    const link = [...main.querySelectorAll("a")].find((a) => a.getAttribute("href") === href);
    if (link) link.focus({ preventScroll: true });
  };
  const selecting = () => {
    const selection = window.getSelection();
    return selection && !selection.isCollapsed && main.contains(selection.anchorNode);
  };

  const refresh = async () => {
    try {
      const answer = await fetch(location.href, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
      const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
      const freshMain = fresh.getElementById("main");
      if (!freshMain) throw new Error("not our page");
      if (!selecting() && freshMain.innerHTML !== main.innerHTML) {
        const href = focused();
        main.innerHTML = freshMain.innerHTML;
        focusAgain(href);
      }
      lastGood = fresh.getElementById("live").innerHTML;
      live.innerHTML = lastGood;
      document.body.classList.remove("lost");
      document.title = fresh.title;
    } catch {
      document.body.classList.add("lost");
      live.textContent = "No answer from rosterd · last seen: " + lastGood.replace(/<[^>]*>/g, "");
    }
  };

  const loop = async () => {
    if (!document.hidden) await refresh();
    setTimeout(loop, PAUSE);
  };
  setTimeout(loop, PAUSE);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
})();
