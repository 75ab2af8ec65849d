#!/usr/bin/env bash
# Installs the Debian font packages that the shipped model was trained with (about 50 MB to download).
# Training works with fewer fonts, but a model that saw few shapes reads few shapes.
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
    fonts-anonymous-pro fonts-noto-mono fonts-ocr-b
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
echo "fonts.sh: ${#packages[@]} font packages are installed."
