#!/bin/sh
# hocr-tools reads the UTF-8 text of an hOCR file as Latin-1, silently: "Küche" becomes "KÃ¼che".
#
# hOCR is XHTML, and XML without a declaration is UTF-8 by its own rules, so that the file below is valid. The
# tools give it to an HTML parser without an encoding, and that parser's guess is Latin-1 unless a meta element
# or a declaration says otherwise. With the declaration in front the same tools print the right words. Ends with
# 0 as long as this is so, else with 1.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet hocr-tools-lib==1.3.0 lxml==6.1.3
cat > bare.hocr <<'HOCR'
<html xmlns="http://www.w3.org/1999/xhtml"><head><title>a page</title></head><body>
<div class="ocr_page" title="bbox 0 0 300 100"><span class="ocr_line" title="bbox 10 10 90 40">Küche</span></div>
</body></html>
HOCR
{ echo '<?xml version="1.0" encoding="UTF-8"?>'; cat bare.hocr; } > declared.hocr
said=$(venv/bin/hocr-lines bare.hocr)
right=$(venv/bin/hocr-lines declared.hocr)
parsed=$(venv/bin/python -c "
from lxml import etree
print(''.join(etree.parse('bare.hocr').getroot().itertext('{*}span')))")
echo "as hocr-lines reads it: $said; with a declaration: $right; as XML: $parsed"
[ "$parsed" = "Küche" ] && [ "$right" = "Küche" ] && [ "$said" = "KÃ¼che" ]
