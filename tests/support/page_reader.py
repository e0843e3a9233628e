"""A page as a browser reads it, and a text that must not harm it."""

from html.parser import HTMLParser

VOID = {"meta", "link", "br", "img", "input", "hr"}
EVIL = '<script>alert("x")</script><img src=x onerror=alert(1)>{{7*5801}}</title></style>'


class Page(HTMLParser):
    """The tags in order; asserts that they are closed as they were opened."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    def words(self):
        return " ".join(" ".join(self.text).split())


def read(path):
    return Page(path.read_text(encoding="utf-8"))
