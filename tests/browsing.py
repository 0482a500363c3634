"""A page of the project in a browser."""

import numpy as np


def contrast(*colours):
    """Of two colours, each from 0 to 255 in red, green and blue (WCAG 2)."""
    parts = np.array(colours) / 255
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    low, high = sorted(linear @ [0.2126, 0.7152, 0.0722])
    return (high + 0.05) / (low + 0.05)


class Tab:
    """The page in a browser, what it requested, and what went wrong."""

    def __init__(self, browser, path, text, **settings):
        path.write_text(text, encoding="utf-8")
        self.url, self.requested, self.errors = path.as_uri(), [], []
        self.context = browser.new_context(**settings)
        self.page = self.context.new_page()
        self.page.on("request", lambda request: self.requested.append(request.url))
        self.page.on("console", lambda message: self.errors.append(message.text))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.goto(self.url)

    def wait(self):
        """Until the page has shown what was set."""
        self.page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def finger(self, *points):
        """Drag a finger over these points of the window."""
        session = self.context.new_cdp_session(self.page)
        for i, (x, y) in enumerate(points):
            kind = "touchMove" if i else "touchStart"
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
        session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
        self.wait()

    def mouse(self, first, *others):
        """Drag the mouse over these points of the window."""
        self.page.mouse.move(*first)
        self.page.mouse.down()
        for point in others:
            self.page.mouse.move(*point, steps=4)
        self.page.mouse.up()
        self.wait()

    def press(self, name):
        """Press a button."""
        self.page.get_by_role("button", name=name).first.click()
        self.wait()

    def overflow(self):
        """By how many pixels the page is wider than its window."""
        return self.page.evaluate("() => document.documentElement.scrollWidth - innerWidth")

    def check(self):
        """The page has loaded nothing but itself, and fits."""
        assert {url.partition("#")[0] for url in self.requested} <= {self.url, "about:blank"}
        assert not self.errors
        assert self.overflow() <= 0
