// Loads the lines for htmx; the page loads htmx itself.
import "./user.js";
