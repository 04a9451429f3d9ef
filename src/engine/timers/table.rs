#![forbid(unsafe_code)]
//! [`Table`]: the entries of timers by number, in pages that exist only while they hold one. Most
//! sessions have a timer for a few seconds, and then none.

use std::mem;

use super::NONE;

/// Entries of a page.
const PAGE: u32 = 64;

/// A timer, and its neighbours in the list of its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) due: u64,
    pub(super) next: u32,
    pub(super) previous: u32,
}

struct Page {
    /// A bit for each entry in use.
    filed: u64,
    entries: [Entry; PAGE as usize],
}

impl Page {
    const EMPTY: Self =
        Self { filed: 0, entries: [Entry { due: 0, next: NONE, previous: NONE }; PAGE as usize] };
}

/// A sparse table.
#[derive(Default)]
pub(super) struct Table {
    pages: Vec<Option<Box<Page>>>,
    /// The page emptied last, so that a lone session does not allocate one for each of its timers.
    spare: Option<Box<Page>>,
}

impl Table {
    /// Returns the entry of a number.
    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut Entry> {
        let page = self.pages.get_mut((number / PAGE) as usize)?.as_mut()?;
        let at = number % PAGE;
        (page.filed & 1 << at != 0).then(|| &mut page.entries[at as usize])
    }

    /// Puts an entry in.
    pub(super) fn put(&mut self, number: u32, entry: Entry) {
        let (place, at) = ((number / PAGE) as usize, number % PAGE);
        if place >= self.pages.len() {
            self.pages.resize_with(place + 1, || None);
        }
        let spare = &mut self.spare;
        let page =
            self.pages[place].get_or_insert_with(|| spare.take().unwrap_or_else(|| Box::new(Page::EMPTY)));
        page.filed |= 1 << at;
        page.entries[at as usize] = entry;
    }

    /// Takes an entry out.
    pub(super) fn take(&mut self, number: u32) -> Option<Entry> {
        let place = self.pages.get_mut((number / PAGE) as usize)?;
        let page = place.as_mut()?;
        let at = number % PAGE;
        if page.filed & 1 << at == 0 {
            return None;
        }
        page.filed &= !(1 << at);
        let entry = page.entries[at as usize];
        if page.filed == 0 {
            self.spare = mem::take(place);
        }
        Some(entry)
    }
}

#[cfg(test)]
impl Table {
    /// Returns how many entries there are.
    pub(super) fn len(&self) -> usize {
        self.pages.iter().flatten().map(|page| page.filed.count_ones() as usize).sum()
    }

    /// Returns how many entries there is room for.
    pub(super) fn room(&self) -> usize {
        self.pages.iter().flatten().count() * PAGE as usize
    }
}
