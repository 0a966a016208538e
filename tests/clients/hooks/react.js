// Shows the user by the lines for React.
import { createElement } from "react";
import { createRoot } from "react-dom/client";
import { useUser } from "./user.js";
import "./auth.js";

function App() {
  const user = useUser();
  return user === undefined ? "nobody yet" : user ? user.username : "a guest";
}
createRoot(document.querySelector("#app")).render(createElement(App));
