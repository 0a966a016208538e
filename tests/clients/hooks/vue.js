// Shows the user by the lines for Vue.
import { createApp } from "vue";
import { user } from "./user.js";

createApp(() => (user.value === undefined ? "nobody yet" : user.value ? user.value.username : "a guest")).mount("#app");
