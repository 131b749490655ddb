"""The pages that explain an image, as a file and in a browser."""

import json
import re
from html.parser import HTMLParser

NAMES = ["</script><script>alert(1)</script>", 'a"b', "<i>c</i>", "&amp;", *"efgh"]
NAME = "<img src=x onerror=alert(2)>.jpg"


class Page(HTMLParser):
    """The ids, elements and texts of a page."""

    def __init__(self, html: str):
        super().__init__()
        self.ids, self.tags, self.addresses, self.text = [], [], [], ""
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        self.ids.append(attributes.get("id"))
        self.addresses += [
            v for k, v in attributes.items() if k in ("src", "href") and v[:1] != "#"
        ]

    def handle_data(self, data):
        self.text += data


def data_of(path) -> dict:
    text = re.search(r'id="data">(.*?)</script>', path.read_text(), re.DOTALL)[1]
    return json.loads(text)


def draw_all(browser):
    browser.evaluate("slots.forEach(refresh)")
