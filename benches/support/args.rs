//! What to run, and how much of it.

use super::Result;

/// The command line of a bench.
pub(crate) struct Spec {
    pub(crate) usage: &'static str,
    pub(crate) sections: &'static [&'static str],
    /// Options of this bench alone, without a value.
    pub(crate) flags: &'static [&'static str],
}

pub(crate) struct Args {
    pub(crate) sections: Vec<&'static str>,
    pub(crate) quick: bool,
    pub(crate) check: bool,
    rounds: Option<usize>,
    load: Option<String>,
    flags: Vec<&'static str>,
}

impl Args {
    pub(crate) fn parse(spec: &Spec, args: &[String]) -> Result<Self> {
        let mut parsed = Self {
            sections: Vec::new(),
            quick: false,
            check: false,
            rounds: None,
            load: None,
            flags: Vec::new(),
        };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--bench" => {}
                "--quick" => parsed.quick = true,
                "--check" => parsed.check = true,
                "--load" => parsed.load = Some(args.next().ok_or("--load needs a text")?.clone()),
                "--rounds" => {
                    let n: usize = args.next().ok_or("--rounds needs a number")?.parse()?;
                    parsed.rounds = Some(n.max(1));
                }
                name => {
                    let same = |known: &&&str| **known == name;
                    if let Some(section) = spec.sections.iter().find(same) {
                        parsed.sections.push(section);
                    } else if let Some(flag) = spec.flags.iter().find(same) {
                        parsed.flags.push(flag);
                    } else {
                        return Err(format!("{name}: not an option or a section\n{}", spec.usage).into());
                    }
                }
            }
        }
        if parsed.sections.is_empty() {
            parsed.sections = spec.sections.to_vec();
        }
        Ok(parsed)
    }

    /// The amount for a full run or for a quick one.
    pub(crate) fn pick<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }

    pub(crate) fn has(&self, flag: &str) -> bool {
        self.flags.contains(&flag)
    }

    pub(crate) fn wants(&self, load: &str) -> bool {
        self.load.as_ref().is_none_or(|text| load.contains(text))
    }

    pub(crate) fn rounds(&self, full: usize, quick: usize) -> usize {
        self.rounds.unwrap_or_else(|| self.pick(full, quick))
    }
}
