// Shows the user by the lines for Solid.
import { render } from "solid-js/web";
import { user } from "./user.js";

render(() => () => (user() === undefined ? "nobody yet" : user() ? user().username : "a guest"), document.querySelector("#app"));
