# SPDX-License-Identifier: Apache-2.0
"""links.py: on the site, a link to a file of the repository outside of engine/docs becomes its path.

A repository shows such a link as a page; the site has no page for it.
"""
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[3]
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((\.\./[^)\s#]+)(?:#[^)\s]*)?\)")


def on_page_markdown(markdown, page, config, files):
    def path(found):
        target = (ROOT / "engine" / "docs" / page.file.src_uri).parent / found[2]
        name = str(target.resolve().relative_to(ROOT))
        return "`%s`" % name if found[1].strip("`") in (name, target.name) else "%s (`%s`)" % (found[1], name)
    return LINK.sub(path, markdown)
