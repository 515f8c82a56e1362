"""The web page: HTML, CSS and JavaScript as they are, served by `onefold.api.page`."""
