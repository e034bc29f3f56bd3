//! Which character is a glyph whose font does not say? One that names only its place in one of Adobe's character
//! collections, as TeX and others embed Chinese, Japanese and Korean fonts, or its place in a bitmap font of TeX.

use std::collections::HashMap;
use std::rc::Rc;

use hayro_interpret::font::Glyph;
use hayro_interpret::hayro_cmap::{BfString, CMap, CMapName, CidFamily, load_embedded};
use hayro_interpret::hayro_syntax::Pdf;
use hayro_interpret::hayro_syntax::object::{Array, Dict, Name, Object, Stream, String as Text};

use crate::bitmaps::Bitmaps;

/// Names of fonts of one document that are looked at, and character maps that are parsed for them.
const FONTS_MAX: usize = 4_096;
const MAPS_MAX: usize = 64;
/// Bytes of a code at most.
const CODE_BYTES_MAX: u8 = 4;

/// Such fonts of a document.
#[derive(Debug, Default)]
pub(crate) struct Collections {
    /// By name without the mark of a subset; none where fonts of one name differ.
    fonts: HashMap<String, Option<Font>>,
    bitmaps: Bitmaps,
}

#[derive(Debug, Clone)]
struct Font {
    /// From codes to places, and from places to characters.
    encoding: Rc<CMap>,
    characters: Rc<CMap>,
}

impl Font {
    fn is(&self, other: &Font) -> bool {
        Rc::ptr_eq(&self.encoding, &other.encoding) && Rc::ptr_eq(&self.characters, &other.characters)
    }
}

impl Collections {
    /// Looks through all of the document's objects.
    pub(crate) fn of(pdf: &Pdf) -> Self {
        let mut fonts: HashMap<String, Option<Font>> = HashMap::new();
        let (mut maps, mut bitmaps) = (Maps::default(), Bitmaps::default());
        for object in pdf.objects() {
            let Object::Dict(dict) = object else { continue };
            bitmaps.add(&dict);
            let Some((name, kind)) = named(&dict).filter(|_| fonts.len() < FONTS_MAX) else { continue };
            let font = if kind == "Type0" { maps.font(&dict) } else { None };
            if font.is_none() && dict.get::<Stream<'_>>(b"ToUnicode".as_slice()).is_some() {
                // It says itself what its characters are; another of the name may not.
                continue;
            }
            let same = |known: &Option<Font>| match (known, &font) {
                (Some(known), Some(font)) => known.is(font),
                _ => false,
            };
            match fonts.get_mut(&name) {
                Some(known) if same(known) => {}
                Some(known) => *known = None,
                None => {
                    fonts.insert(name, font);
                }
            }
        }
        fonts.retain(|_, font| font.is_some());
        bitmaps.settle();
        Collections { fonts, bitmaps }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.fonts.is_empty() && self.bitmaps.is_empty()
    }

    pub(crate) fn character(&self, glyph: &Glyph<'_>) -> Option<BfString> {
        let glyph = match glyph {
            Glyph::Outline(glyph) => glyph,
            Glyph::Type3(glyph) => return self.bitmaps.character(glyph.char_code(), glyph.advance_width()?),
        };
        let font = self.fonts.get(&glyph.font_data()?.postscript_name?)?.as_ref()?;
        let code = glyph.char_code();
        let place = (1..=CODE_BYTES_MAX).find_map(|bytes| font.encoding.lookup_cid_code(code, bytes))?;
        font.characters.lookup_bf_string(place)
    }
}

/// A font's name without its mark, and what kind it is; none for what is no font of a page.
fn named(dict: &Dict<'_>) -> Option<(String, String)> {
    let kind = dict.get::<Name<'_>>(b"Subtype".as_slice())?;
    let base = dict.get::<Name<'_>>(b"BaseFont".as_slice())?;
    let of_page = matches!(kind.as_str(), "Type0" | "Type1" | "MMType1" | "TrueType");
    of_page.then(|| (without_mark(base.as_str()).to_owned(), kind.as_str().to_owned()))
}

/// Character maps that were parsed, each once; none where there is no such map.
#[derive(Default)]
struct Maps {
    known: HashMap<Vec<u8>, Option<Rc<CMap>>>,
}

impl Maps {
    /// The maps of a composite font of a known collection.
    fn font(&mut self, dict: &Dict<'_>) -> Option<Font> {
        let descendants = dict.get::<Array<'_>>(b"DescendantFonts".as_slice())?;
        let descendant = descendants.iter::<Dict<'_>>().next()?;
        let info = descendant.get::<Dict<'_>>(b"CIDSystemInfo".as_slice())?;
        let part = |key: &[u8]| info.get::<Text<'_>>(key).map(|text| text.as_bytes().to_vec());
        let family = CidFamily::from_registry_ordering(&part(b"Registry")?, &part(b"Ordering")?);
        let characters = self.named(family.ucs2_cmap()?)?;
        let encoding = match dict.get::<Object<'_>>(b"Encoding".as_slice())? {
            Object::Name(name) => self.named(CMapName::from_bytes(&name))?,
            Object::Stream(stream) => self.get(stream.raw_data().to_vec(), || {
                CMap::parse(&stream.decoded_data().ok()?, load_embedded)
            })?,
            _ => return None,
        };
        Some(Font { encoding, characters })
    }

    fn named(&mut self, name: CMapName<'_>) -> Option<Rc<CMap>> {
        self.get(name.to_bytes().to_vec(), || match name {
            CMapName::IdentityH => Some(CMap::identity_h()),
            CMapName::IdentityV => Some(CMap::identity_v()),
            name => CMap::parse(load_embedded(name)?, load_embedded),
        })
    }

    fn get(&mut self, key: Vec<u8>, parse: impl FnOnce() -> Option<CMap>) -> Option<Rc<CMap>> {
        if let Some(known) = self.known.get(&key) {
            return known.clone();
        }
        let map = if self.known.len() < MAPS_MAX { parse().map(Rc::new) } else { return None };
        self.known.insert(key, map.clone());
        map
    }
}

/// `ABCDEF+Name` is a subset of `Name`.
fn without_mark(name: &str) -> &str {
    match name.split_once('+') {
        Some((mark, rest)) if mark.len() == 6 && mark.bytes().all(|b| b.is_ascii_uppercase()) => rest,
        _ => name,
    }
}
