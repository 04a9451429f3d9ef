#![forbid(unsafe_code)]
//! [`Snapshot`]: routes in the bytes of a file, looked up where they are. docs/ROUTES.md has the
//! format.
//!
//! Whoever writes the file may be wrong, so nothing in it is believed: what is read lies within the
//! bytes, whatever they say, or it is not there.

use std::error::Error;
use std::fmt;
use std::net::SocketAddr;

use super::hash::{hash, random_key};
use super::lookup::{Lookup, LookupOptions, SortedRoutes, find, host_text, lookup, route_text};
use super::pattern::RouteKey;

const MAGIC: &[u8; 8] = b"DLROUTES";
const VERSION: u32 = 1;
const HEADER: usize = 64;
const FIRST_LABEL: u32 = 0x01;
/// A hash, and where the record is.
const INDEX_ENTRY: usize = 12;
const LIVE: u8 = 0x01;
const STRIP: u8 = 0x02;
/// Buckets at most, as a power of two.
const BUCKET_BITS_MAX: u32 = 24;

/// A route in a snapshot, when it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotRoute {
    /// What it serves.
    pub key: RouteKey,
    /// Where the requests go, at most [`TARGETS_MAX`](Self::TARGETS_MAX).
    pub targets: Vec<SnapshotTarget>,
}

impl SnapshotRoute {
    /// Targets of a route at most.
    pub const TARGETS_MAX: usize = 1024;
}

/// A target of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotTarget {
    /// Its address. It is sent plain HTTP.
    pub address: SocketAddr,
    /// Its part of the requests, 1 to [`WEIGHT_MAX`](Self::WEIGHT_MAX).
    pub weight: u16,
    /// Whether it gets requests now.
    pub live: bool,
    /// Whether the prefix of the route is removed from the path of what it gets.
    pub strip: bool,
}

impl SnapshotTarget {
    /// The largest weight.
    pub const WEIGHT_MAX: u16 = 1000;
}

/// Routes that were written by [`Snapshot::write`].
pub struct Snapshot {
    bytes: Box<[u8]>,
    options: LookupOptions,
    generation: u64,
    hash_key: [u64; 2],
    bucket_bits: u32,
    len: usize,
    /// Where the index of the routes begins; the records follow it.
    index: usize,
}

impl Snapshot {
    /// Returns the bytes of a snapshot. Of several routes with the same key the first is kept. The
    /// generation is the writer's: how often the routes have changed, for instance.
    ///
    /// # Errors
    /// If a route has too many targets or a weight out of range, or if the file would be larger
    /// than 4 GiB.
    pub fn write(
        options: &LookupOptions,
        generation: u64,
        routes: impl IntoIterator<Item = SnapshotRoute>,
    ) -> Result<Vec<u8>, SnapshotError> {
        let hash_key = random_key();
        let mut sorted = Vec::new();
        for route in routes {
            let text = route_text(&route.key);
            sorted.push((hash(hash_key, host_text(text.as_bytes())), text, route));
        }
        sorted.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        sorted.dedup_by(|a, b| a.1 == b.1);

        let bucket_bits = sorted.len().checked_ilog2().unwrap_or_default().min(BUCKET_BITS_MAX);
        let mut domains = Vec::new();
        for domain in options.domains() {
            put_text(&mut domains, domain)?;
        }
        let mut buckets = Vec::new();
        let mut index = Vec::new();
        let mut records = Vec::new();
        for (at, (hash, text, route)) in sorted.iter().enumerate() {
            let at = u32::try_from(at).map_err(|_| SnapshotError::TooLarge)?;
            // The first route of each bucket up to its own.
            buckets.resize(buckets.len().max(bucket_of(*hash, bucket_bits) + 1), at);
            index.extend(hash.to_le_bytes());
            index.extend(u32::try_from(records.len()).map_err(|_| SnapshotError::TooLarge)?.to_le_bytes());
            put_record(&mut records, text, route)?;
        }
        let len = u32::try_from(sorted.len()).map_err(|_| SnapshotError::TooLarge)?;
        buckets.resize((1 << bucket_bits) + 1, len);

        let size = HEADER + domains.len() + buckets.len() * 4 + index.len() + records.len();
        let size = u32::try_from(size).map_err(|_| SnapshotError::TooLarge)?;
        let domains_len = u32::try_from(domains.len()).map_err(|_| SnapshotError::TooLarge)?;
        let mut bytes = Vec::new();
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(if options.first_label() { FIRST_LABEL } else { 0 }.to_le_bytes());
        bytes.extend(generation.to_le_bytes());
        bytes.extend(hash_key.iter().flat_map(|half| half.to_le_bytes()));
        for number in [size, domains_len, bucket_bits, len] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.resize(HEADER, 0);
        bytes.extend(domains);
        bytes.extend(buckets.into_iter().flat_map(u32::to_le_bytes));
        bytes.extend(index);
        bytes.extend(records);
        Ok(bytes)
    }

    /// Returns the snapshot in the bytes of a file. Reads the header and the base domains only.
    ///
    /// # Errors
    /// If it is no snapshot, of another version, or not whole.
    pub fn parse(bytes: impl Into<Box<[u8]>>) -> Result<Self, SnapshotError> {
        let bytes = bytes.into();
        if !bytes.starts_with(MAGIC) {
            return Err(SnapshotError::Magic);
        }
        let number = |at| read_u32(&bytes, at).ok_or(SnapshotError::Length);
        let wide = |at| read_u64(&bytes, at).ok_or(SnapshotError::Length);
        let version = number(8)?;
        if version != VERSION {
            return Err(SnapshotError::Version(version));
        }
        let (flags, generation, hash_key) = (number(12)?, wide(16)?, [wide(24)?, wide(32)?]);
        let (size, domains_len, bucket_bits, len) = (number(40)?, number(44)?, number(48)?, number(52)?);
        if u64::from(size) != bytes.len() as u64 {
            return Err(SnapshotError::Length);
        }
        if flags & !FIRST_LABEL != 0 || bucket_bits > BUCKET_BITS_MAX {
            return Err(SnapshotError::Header);
        }
        // 64 bits are enough for the sum of what 32 bits can say.
        let index = HEADER as u64 + u64::from(domains_len) + ((1 << bucket_bits) + 1) * 4;
        if index + u64::from(len) * INDEX_ENTRY as u64 > u64::from(size) {
            return Err(SnapshotError::Length);
        }
        let to_size = |number: u64| usize::try_from(number).map_err(|_| SnapshotError::Length);
        let domains_end = HEADER + to_size(domains_len.into())?;
        let mut domains = bytes.get(HEADER..domains_end).ok_or(SnapshotError::Length)?;
        let mut texts = Vec::new();
        while !domains.is_empty() {
            let (domain, rest) = take_text(domains).ok_or(SnapshotError::Header)?;
            texts.push(std::str::from_utf8(domain).map_err(|_| SnapshotError::Header)?);
            domains = rest;
        }
        let options =
            LookupOptions::new(texts, flags & FIRST_LABEL != 0).map_err(|_| SnapshotError::Header)?;
        let (index, len) = (to_size(index)?, to_size(len.into())?);
        Ok(Self { options, generation, hash_key, bucket_bits, len, index, bytes })
    }

    /// Returns the route for a request, as [`RouteTable::lookup`](super::RouteTable::lookup) does.
    /// Allocates nothing.
    #[must_use]
    pub fn lookup(&self, host: &[u8], path: &[u8]) -> Lookup<FoundRoute<'_>> {
        lookup(&self.options, host, |candidate| {
            let hash = hash(self.hash_key, candidate);
            let bucket = self.bucket(hash);
            find(&bucket, hash, candidate, path).and_then(|at| FoundRoute::read(bucket.record(at)?.1))
        })
    }

    /// Returns how many routes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether there is no route.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the number that the writer has given it.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Returns what hosts are looked up by.
    #[must_use]
    pub fn options(&self) -> &LookupOptions {
        &self.options
    }

    /// Returns the few routes among which those of a hash are.
    fn bucket(&self, hash: u64) -> Bucket<'_> {
        let directory = self.index - ((1 << self.bucket_bits) + 1) * 4;
        let at = directory + bucket_of(hash, self.bucket_bits) * 4;
        let first_of = |at| read_u32(&self.bytes, at).map_or(0, |first| self.len.min(first as usize));
        let (start, end) = (first_of(at), first_of(at + 4));
        Bucket { snapshot: self, start, len: end.saturating_sub(start) }
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Snapshot");
        debug.field("generation", &self.generation).field("options", &self.options);
        debug.field("len", &self.len).finish_non_exhaustive()
    }
}

struct Bucket<'s> {
    snapshot: &'s Snapshot,
    start: usize,
    len: usize,
}

impl<'s> Bucket<'s> {
    fn entry(&self, at: usize) -> usize {
        self.snapshot.index + (self.start + at) * INDEX_ENTRY
    }

    /// Returns the text of a record, and what follows it.
    fn record(&self, at: usize) -> Option<(&'s [u8], &'s [u8])> {
        let bytes = &self.snapshot.bytes;
        let records = self.snapshot.index + self.snapshot.len * INDEX_ENTRY;
        let offset = read_u32(bytes, self.entry(at) + 8)? as usize;
        take_text(bytes.get(records.checked_add(offset)?..)?)
    }
}

impl SortedRoutes for Bucket<'_> {
    fn len(&self) -> usize {
        self.len
    }

    fn hash(&self, at: usize) -> u64 {
        read_u64(&self.snapshot.bytes, self.entry(at)).unwrap_or_default()
    }

    fn text(&self, at: usize) -> &[u8] {
        self.record(at).unwrap_or_default().0
    }
}

/// A route in a snapshot, when it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundRoute<'s> {
    name: &'s str,
    targets: &'s [u8],
}

impl<'s> FoundRoute<'s> {
    /// Returns what is read from the part of a record that follows the text.
    fn read(rest: &'s [u8]) -> Option<Self> {
        let (name, rest) = take_text(rest)?;
        let name =
            std::str::from_utf8(name).ok().filter(|name| name.bytes().all(|b| b.is_ascii_graphic()))?;
        let (targets, _) = take_text(rest)?;
        Some(Self { name, targets })
    }

    /// Returns its key as it is displayed. Printable characters only.
    #[must_use]
    pub fn name(&self) -> &'s str {
        self.name
    }

    /// Returns its targets. What is no target ends them.
    pub fn targets(&self) -> impl Iterator<Item = FoundTarget<'s>> + Clone + use<'s> {
        let mut rest = self.targets;
        std::iter::from_fn(move || {
            let (target, next) = FoundTarget::take(rest)?;
            rest = next;
            Some(target)
        })
        .take(SnapshotRoute::TARGETS_MAX)
    }
}

/// A target in a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundTarget<'s> {
    /// Its address: `192.0.2.1:80`, `[2001:db8::1]:80`.
    pub address: &'s str,
    /// Its part of the requests; none if 0, which no writer of ours has.
    pub weight: u16,
    /// Whether it gets requests now.
    pub live: bool,
    /// Whether the prefix of the route is removed from the path of what it gets.
    pub strip: bool,
}

impl<'s> FoundTarget<'s> {
    fn take(bytes: &'s [u8]) -> Option<(Self, &'s [u8])> {
        let (&[weight_low, weight_high, flags], rest) = bytes.split_first_chunk()?;
        let (address, rest) = take_text(rest)?;
        let address = std::str::from_utf8(address).ok()?;
        // A host passes it on as it is: nothing else may be in it.
        address.parse::<SocketAddr>().ok()?;
        let weight = u16::from_le_bytes([weight_low, weight_high]);
        Some((Self { address, weight, live: flags & LIVE != 0, strip: flags & STRIP != 0 }, rest))
    }
}

/// Why something is no snapshot, or cannot be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotError {
    /// It does not begin as one.
    Magic,
    /// It has this version, which is not known.
    Version(u32),
    /// It is not as long as it says: some of it is missing, or it is damaged.
    Length,
    /// It says of itself what none would.
    Header,
    /// The file would be larger than 4 GiB.
    TooLarge,
    /// A route has too many targets, or a weight out of range.
    Route,
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Magic => f.write_str("it is no snapshot of routes"),
            Self::Version(version) => {
                write!(f, "it has version {version} of the format, this program reads version {VERSION}")
            }
            Self::Length => f.write_str("it is not whole: it has another length than it says"),
            Self::Header => f.write_str("its header or its base domains are damaged"),
            Self::TooLarge => f.write_str("it would be larger than 4 GiB"),
            Self::Route => f.write_str("a route has up to 1024 targets, each with a weight of 1 to 1000"),
        }
    }
}

impl Error for SnapshotError {}

fn bucket_of(hash: u64, bucket_bits: u32) -> usize {
    let bucket = hash.checked_shr(u64::BITS - bucket_bits).unwrap_or_default();
    usize::try_from(bucket).unwrap_or_default()
}

fn put_record(records: &mut Vec<u8>, text: &str, route: &SnapshotRoute) -> Result<(), SnapshotError> {
    if route.targets.len() > SnapshotRoute::TARGETS_MAX {
        return Err(SnapshotError::Route);
    }
    let mut targets = Vec::new();
    for target in &route.targets {
        if !(1..=SnapshotTarget::WEIGHT_MAX).contains(&target.weight) {
            return Err(SnapshotError::Route);
        }
        targets.extend(target.weight.to_le_bytes());
        targets.push(if target.live { LIVE } else { 0 } | if target.strip { STRIP } else { 0 });
        put_text(&mut targets, &target.address.to_string())?;
    }
    put_text(records, text)?;
    put_text(records, &route.key.to_string())?;
    put_bytes(records, &targets)
}

fn put_text(out: &mut Vec<u8>, text: &str) -> Result<(), SnapshotError> {
    put_bytes(out, text.as_bytes())
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), SnapshotError> {
    let len = u16::try_from(bytes.len()).map_err(|_| SnapshotError::TooLarge)?;
    out.extend(len.to_le_bytes());
    out.extend(bytes);
    Ok(())
}

/// Returns the bytes that two bytes give the length of, and what follows them.
fn take_text(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(u16::from_le_bytes(*len).into())
}

fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|number| u32::from_le_bytes(*number))
}

fn read_u64(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|number| u64::from_le_bytes(*number))
}

#[cfg(test)]
mod tests;
