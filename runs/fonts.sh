#!/usr/bin/env bash
# Installs the Debian packages of fonts and word lists that the model in the package was trained with (some
# 150 MB to download). Training works with fewer, but a model that saw few shapes reads few shapes, and one
# that saw English alone reads no accents.
# All packages are in Debian 12 "main". Usage: bash runs/fonts.sh
set -euo pipefail

packages=(
    # Sans
    fonts-dejavu-core fonts-liberation fonts-freefont-ttf fonts-croscore fonts-lato fonts-roboto-unhinted
    fonts-open-sans fonts-crosextra-carlito fonts-cantarell fonts-quicksand fonts-comfortaa fonts-cabin
    fonts-karla fonts-play fonts-oxygen fonts-paratype fonts-dosis fonts-manrope fonts-inter fonts-b612
    fonts-sil-andika fonts-adf-gillius fonts-adf-universalis fonts-clear-sans fonts-tuffy fonts-comic-neue
    fonts-yanone-kaffeesatz fonts-jura fonts-sora fonts-opendin fonts-national-park fonts-go
    # Serif
    fonts-crosextra-caladea fonts-linuxlibertine fonts-ebgaramond fonts-sil-gentium-basic fonts-sil-charis
    fonts-vollkorn fonts-oldstandard fonts-roboto-slab fonts-cmu fonts-gfs-didot
    fonts-adf-romande fonts-adf-accanthis fonts-quattrocento fonts-yrsa-rasa fonts-arapey fonts-fanwood
    fonts-urw-base35
    # Fixed width
    fonts-inconsolata fonts-hack fonts-firacode fonts-jetbrains-mono fonts-courier-prime
    fonts-anonymous-pro fonts-noto-mono fonts-ocr-b fonts-mononoki fonts-hermit fonts-agave
    fonts-fantasque-sans fonts-monofur fonts-league-mono fonts-tlwg-mono-ttf
    # Typewriters, terminals, receipts, machine-readable and condensed faces
    fonts-gnutypewriter fonts-tlwg-typewriter-ttf fonts-ocr-a fonts-3270 fonts-glasstty fonts-dotgothic16
    fonts-dejavu-extra fonts-noto-core fonts-lmodern fonts-cardo fonts-junicode
    # Word lists of a dozen languages (nanoocr/data/synth/languages.py)
    wamerican wngerman wfrench wspanish witalian wportuguese wdutch wpolish wdanish wswedish wnorwegian
    hunspell-cs hunspell-tr hunspell-is
)

if ! command -v apt-get >/dev/null; then
    echo "fonts.sh: there is no apt-get here; install the fonts listed in this file by your system's means." >&2
    exit 2
fi

as_root=()
if [[ "$(id -u)" -ne 0 ]]; then
    if ! command -v sudo >/dev/null; then
        echo "fonts.sh: run this as root, or install sudo." >&2
        exit 2
    fi
    as_root=(sudo)
fi

"${as_root[@]}" apt-get update
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${packages[@]}"
echo "fonts.sh: ${#packages[@]} packages of fonts and words are installed."
