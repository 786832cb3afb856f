//! Who may call, and what each may do: `--allow-caller`, or the file of `--callers-file`.

use std::{
    collections::{BTreeSet, HashSet},
    fmt,
    sync::Arc,
};

use serde::Deserialize;

use super::{
    Name, Pattern,
    share::{Allotment, Owner, Share},
};

/// Entries that a file may have: each has metrics of its own.
const MAX_ENTRIES: usize = 1000;

/// Who may call, and what each may do.
#[derive(Debug, Default)]
pub struct Rules {
    /// Without any, every caller that is identified may do everything.
    entries: Vec<Arc<Entry>>,
    /// Whether a day's calls are divided.
    is_divided: bool,
}

/// The rules for one caller, or for those that one pattern names.
#[derive(Debug)]
pub struct Entry {
    /// What the file calls it.
    pub name: Arc<str>,
    pattern: Pattern,
    /// These alone; without it, all.
    sites: Option<BTreeSet<String>>,
    /// These alone; without it, all.
    methods: Option<BTreeSet<String>>,
    share: Option<Share>,
    /// Whether it stands in a file, so that the set of names is a finite one.
    is_named: bool,
}

/// A caller that was identified, and may call.
#[derive(Clone, Debug)]
pub struct Caller {
    /// A SAN of its certificate, or the subject of its token.
    pub name: String,
    /// The entries that it was found by, each with the name that was found: its token's before its
    /// certificate's. None where everybody may call.
    grants: Vec<(String, Arc<Entry>)>,
    rules: Arc<Rules>,
}

/// What a table of the file holds.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    name: String,
    sites: Option<BTreeSet<String>>,
    methods: Option<BTreeSet<String>>,
    daily_share: Option<f64>,
}

impl Rules {
    /// The rules of these values of `--allow-caller`: whoever is on the list may do everything.
    pub fn allowing<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, &'static str> {
        let entry = |name: &str| {
            Ok::<_, &str>(Arc::new(Entry {
                name: name.into(),
                pattern: Pattern::of_flag(name)?,
                sites: None,
                methods: None,
                share: None,
                is_named: false,
            }))
        };
        Ok(Self {
            entries: names.into_iter().map(entry).collect::<Result<_, _>>()?,
            is_divided: false,
        })
    }

    /// The rules in a file's text, or all that is wrong with it, one problem a line. A problem quotes
    /// nothing but the names of callers: the file may be another one, with keys in it.
    pub fn parse(
        text: &[u8],
        methods: &[String],
        daily_quota: Option<u64>,
    ) -> Result<Self, String> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct File {
            #[serde(default)]
            caller: Vec<toml::Table>,
        }
        let file: File = toml::from_slice(text)
            .map_err(|_| "must be TOML that holds nothing but [[caller]] tables")?;
        let mut problems = Problems::default();
        let tables = file.caller.into_iter().zip(1..);
        let entries: Vec<_> = tables
            .filter_map(|(table, number)| entry(table, number, methods, daily_quota, &mut problems))
            .map(Arc::new)
            .collect();
        problems.of_all(&entries);
        problems.finish(Self {
            is_divided: entries.iter().any(|entry| entry.share.is_some()),
            entries,
        })
    }

    /// The entries, in the order of the file.
    pub fn named(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.entries.iter().filter(|entry| entry.is_named)
    }

    /// Whether every caller that is identified may call.
    pub fn are_open(&self) -> bool {
        self.entries.is_empty()
    }

    /// The caller with these names, called by the first that an entry is for; or none, if it may not
    /// call. An entry of exactly this name goes before a pattern.
    pub fn admit(self: &Arc<Self>, names: &[Name]) -> Option<Caller> {
        let caller = |name: &Name, entry: Option<&Arc<Entry>>| Caller {
            name: name.text.clone(),
            grants: entry
                .map(|entry| (name.text.clone(), Arc::clone(entry)))
                .into_iter()
                .collect(),
            rules: Arc::clone(self),
        };
        if self.are_open() {
            return names.first().map(|name| caller(name, None));
        }
        names
            .iter()
            .find_map(|name| Some(caller(name, Some(self.entry(name)?))))
    }

    pub(super) fn entry(&self, name: &Name) -> Option<&Arc<Entry>> {
        let matching = self
            .entries
            .iter()
            .filter(|entry| entry.pattern.matches(name));
        matching.min_by_key(|entry| entry.pattern.exact().is_none())
    }

    /// The calls of the day for all callers without a share.
    fn others(&self, daily: u64) -> u64 {
        let shares = self.entries.iter().filter_map(|entry| entry.share);
        daily.saturating_sub(shares.map(|share| share.of(daily)).sum())
    }
}

impl Entry {
    /// What it may use of so many calls a day, where it has a share.
    pub fn allotment(&self, daily: u64) -> Option<Allotment> {
        Some(Allotment {
            owner: Owner::Caller(Arc::clone(&self.name)),
            calls: self.share?.of(daily),
        })
    }

    pub(super) fn may_call(&self, method: &str) -> bool {
        self.methods
            .as_ref()
            .is_none_or(|methods| methods.contains(method))
    }

    pub(super) fn may_use(&self, site: &str) -> bool {
        self.sites.as_ref().is_none_or(|sites| sites.contains(site))
    }
}

impl Caller {
    /// The same, where its certificate has to be allowed too.
    #[must_use]
    pub fn and(&self, certificate: &Self) -> Self {
        let mut both = self.clone();
        both.grants.extend(certificate.grants.iter().cloned());
        both
    }

    /// Whether it may make a call of this method (its short name) to this site; if not, which of its
    /// names may not.
    pub fn may(&self, method: &str, site: &str) -> Result<(), &str> {
        let may = |entry: &Entry| entry.may_call(method) && entry.may_use(site);
        let refusing = self.grants.iter().find(|(_, entry)| !may(entry));
        refusing.map_or(Ok(()), |(name, _)| Err(name))
    }

    /// The calls of the day that it may use, where the day is divided: those of its first entry with a
    /// share, or those of all that have none.
    pub fn allotment(&self, daily: u64) -> Option<Allotment> {
        let others = || Allotment {
            owner: Owner::Others,
            calls: self.rules.others(daily),
        };
        let mut own = self
            .grants
            .iter()
            .filter_map(|(_, entry)| entry.allotment(daily));
        self.rules
            .is_divided
            .then(|| own.next().unwrap_or_else(others))
    }

    /// Whether it was admitted by these rules.
    pub fn is_held_to(&self, rules: &Arc<Rules>) -> bool {
        Arc::ptr_eq(&self.rules, rules)
    }

    /// What its metrics call it: by the entry that it was found by, where that is one of a file's.
    pub fn label(&self) -> Option<&Arc<str>> {
        let (_, entry) = self.grants.first()?;
        entry.is_named.then_some(&entry.name)
    }
}

/// A table's entry, unless something is wrong with it.
fn entry(
    table: toml::Table,
    number: usize,
    methods: &[String],
    daily_quota: Option<u64>,
    problems: &mut Problems,
) -> Option<Entry> {
    let place = table.get("name").and_then(toml::Value::as_str);
    let place = match place.filter(|name| Pattern::of_entry(name).is_ok()) {
        Some(name) => format!("caller {number}, {name}"),
        None => format!("caller {number}"),
    };
    let mut problem = |says: &str| problems.0.push(format!("{place}: {says}"));
    let Ok(table) = table.try_into::<Table>() else {
        problem(
            "must have a name, and besides it only sites, methods (lists of strings) and daily_share (a number)",
        );
        return None;
    };
    let pattern = Pattern::of_entry(&table.name).map_err(&mut problem).ok();
    let is_empty = |set: &Option<BTreeSet<String>>| set.as_ref().is_some_and(BTreeSet::is_empty);
    if is_empty(&table.sites) || is_empty(&table.methods) {
        problem("an empty list would allow nothing; leave it out to allow all");
    }
    if !table
        .methods
        .iter()
        .flatten()
        .all(|method| methods.contains(method))
    {
        problem(&format!("methods must be among {}", methods.join(", ")));
    }
    let share = table.daily_share.map(Share::new);
    match (share, daily_quota) {
        (Some(None), _) => problem("daily_share must be above 0 and at most 1"),
        (Some(Some(share)), Some(daily)) if share.of(daily) == 0 => {
            problem("daily_share comes to not one call of --daily-quota");
        }
        (Some(Some(_)), None) => problem("daily_share needs --daily-quota"),
        (Some(Some(_)), Some(_)) | (None, _) => {}
    }
    Some(Entry {
        name: table.name.into(),
        pattern: pattern?,
        sites: table.sites,
        methods: table.methods,
        share: share.flatten(),
        is_named: true,
    })
}

/// All that is wrong with a file.
#[derive(Default)]
struct Problems(Vec<String>);

impl Problems {
    /// Looks for what is wrong with the entries together.
    fn of_all(&mut self, entries: &[Arc<Entry>]) {
        let mut seen = HashSet::new();
        for entry in entries {
            if !seen.insert(&entry.pattern) {
                self.0.push(format!("{}: is there twice", entry.name));
            }
        }
        if Share::exceed(entries.iter().filter_map(|entry| entry.share)) {
            self.0
                .push("the shares of all callers come to more than 1".to_owned());
        }
        if entries.len() > MAX_ENTRIES {
            self.0.push(format!("has more than {MAX_ENTRIES} callers"));
        }
        if entries.is_empty() && self.0.is_empty() {
            self.0
                .push("names no caller, so that nobody could call".to_owned());
        }
    }

    fn finish(self, rules: Rules) -> Result<Rules, String> {
        if self.0.is_empty() {
            Ok(rules)
        } else {
            Err(self.0.join("\n"))
        }
    }
}

/// What the file says of a caller, for people.
impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |set: &Option<BTreeSet<String>>, all: &str| match set {
            Some(set) => set
                .iter()
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join(", "),
            None => all.to_owned(),
        };
        writeln!(f, "{}", self.name)?;
        writeln!(f, "  methods: {}", list(&self.methods, "all"))?;
        writeln!(f, "  sites: {}", list(&self.sites, "all"))?;
        match self.share {
            Some(share) => writeln!(f, "  calls of the day: {share}, which nobody else may use"),
            None => writeln!(f, "  calls of the day: those that are nobody's share"),
        }
    }
}

/// What the file says, for people.
impl fmt::Display for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.entries.iter().try_for_each(|entry| entry.fmt(f))
    }
}

#[cfg(test)]
mod tests;
