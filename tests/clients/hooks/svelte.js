// Shows the user by the lines for Svelte.
import { user } from "./user.js";

user.subscribe((now) => {
  document.querySelector("#app").textContent = now === undefined ? "nobody yet" : now ? now.username : "a guest";
});
