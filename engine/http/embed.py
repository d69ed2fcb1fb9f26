#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""embed.py OUT.c FOLDER VERSION FILE…: the files' bytes as C arrays, in a table by their path below FOLDER.

`@VERSION@` in the page's HTML becomes the version."""
import os
import sys

out, folder, version, files = sys.argv[1], sys.argv[2], sys.argv[3], sys.argv[4:]
with open(out, "w", encoding="ascii") as target:
    target.write('#include "engine/http/files.h"\n\n')
    names = []
    for number, path in enumerate(files):
        with open(path, "rb") as source:
            data = source.read()
        if path.endswith(".html"):
            data = data.replace(b"@VERSION@", version.encode("ascii"))
        names.append((os.path.relpath(path, folder), number, len(data)))
        target.write("static const unsigned char file_%d[] = {" % number)
        target.write(",".join(str(byte) for byte in data) or "0")
        target.write("};\n")
    target.write("\nconst tow_file_t tow_files[] = {\n")
    for name, number, length in names:
        target.write('    {"%s", file_%d, %d},\n' % (name, number, length))
    target.write("    {0, 0, 0},\n};\n")
