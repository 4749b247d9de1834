const dialog = document.querySelector("dialog"), large = dialog.querySelector("img");
for (const button of document.querySelectorAll(".zoom")) button.addEventListener("click", () => {
  const picture = button.querySelector("img");
  large.src = picture.src; large.alt = picture.alt;
  large.style.width = `min(96vw, ${Math.max(picture.naturalWidth, 720)}px)`; dialog.showModal();
});
dialog.addEventListener("click", () => dialog.close());
