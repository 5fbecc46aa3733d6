//! Rounds become figures, figures become a table.

use std::fmt::Write as _;

/// The middle, the least and the most of some rounds.
#[derive(Clone, Copy)]
pub struct Spread {
    /// The median.
    pub median: f64,
    /// The least.
    pub least: f64,
    /// The most.
    pub most: f64,
}

impl Spread {
    /// Of these rounds, of which there is at least one.
    pub fn of(rounds: &[f64]) -> Self {
        Self { median: quantile(rounds, 0.5), least: quantile(rounds, 0.0), most: quantile(rounds, 1.0) }
    }
}

/// The value below which this part of all values lies.
pub fn quantile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (part * sorted.len() as f64).ceil() as usize;
    sorted[at.saturating_sub(1).min(sorted.len() - 1)]
}

/// What is wanted of a figure.
#[derive(Clone, Copy)]
pub enum Aim {
    /// At most this many times the floor.
    Ratio(f64),
    /// At most this, in the figure's own unit.
    AtMost(f64),
    /// At least this, in the figure's own unit.
    AtLeast(f64),
    /// Nothing: it explains another.
    Told,
}

struct Row {
    name: String,
    ours: String,
    floor: String,
    ratio: String,
    aim: String,
    verdict: &'static str,
}

/// All figures so far. Each is also printed as soon as it is there.
#[derive(Default)]
pub struct Table(Vec<Row>);

impl Table {
    /// A figure beside its floor, round by round.
    pub fn against(&mut self, name: &str, unit: &str, ours: &[f64], floor: &[f64], aim: Aim) {
        let ratios: Vec<f64> = ours.iter().zip(floor).map(|(ours, floor)| ours / floor).collect();
        let ratio = Spread::of(&ratios);
        let verdict = match aim {
            Aim::Ratio(most) => verdict(ratio.median > most, ratio.least > most),
            _ => absolute(aim, ours),
        };
        let ratio = format!("{:.2}x ({:.2}–{:.2})", ratio.median, ratio.least, ratio.most);
        self.row(name, spread(ours, unit), spread(floor, unit), ratio, worded(aim, unit), verdict);
    }

    /// A figure without a floor.
    pub fn alone(&mut self, name: &str, unit: &str, ours: &[f64], aim: Aim) {
        let (none, verdict) = (String::new, absolute(aim, ours));
        self.row(name, spread(ours, unit), none(), none(), worded(aim, unit), verdict);
    }

    fn row(
        &mut self,
        name: &str,
        ours: String,
        floor: String,
        ratio: String,
        aim: String,
        verdict: &'static str,
    ) {
        let beside = if floor.is_empty() { floor.clone() } else { format!("; floor {floor}, {ratio}") };
        let wanted = if aim.is_empty() { aim.clone() } else { format!("; aim {aim} {verdict}") };
        eprintln!("  {name}: {ours}{beside}{wanted}");
        self.0.push(Row { name: name.to_owned(), ours, floor, ratio, aim, verdict });
    }

    /// The whole table, as Markdown.
    pub fn text(&self) -> String {
        let mut text = String::from(
            "| figure | ours: median (least–most round) | floor | ratio | aim | |\n|---|---|---|---|---|---|\n",
        );
        for Row { name, ours, floor, ratio, aim, verdict } in &self.0 {
            let _ = writeln!(text, "| {name} | {ours} | {floor} | {ratio} | {aim} | {verdict} |");
        }
        text
    }
}

fn absolute(aim: Aim, ours: &[f64]) -> &'static str {
    let Spread { median, least, most } = Spread::of(ours);
    match aim {
        Aim::AtMost(bound) => verdict(median > bound, least > bound),
        Aim::AtLeast(bound) => verdict(median < bound, most < bound),
        Aim::Ratio(_) | Aim::Told => "",
    }
}

/// A miss that not every round shows may be the machine's mood.
fn verdict(median_misses: bool, all_miss: bool) -> &'static str {
    match (median_misses, all_miss) {
        (false, _) => "",
        (true, false) => "missed, not by every round",
        (true, true) => "missed",
    }
}

fn worded(aim: Aim, unit: &str) -> String {
    match aim {
        Aim::Ratio(most) => format!("≤ {most}x"),
        Aim::AtMost(most) => format!("≤ {} {unit}", number(most)),
        Aim::AtLeast(least) => format!("≥ {} {unit}", number(least)),
        Aim::Told => String::new(),
    }
}

fn spread(rounds: &[f64], unit: &str) -> String {
    let Spread { median, least, most } = Spread::of(rounds);
    if rounds.len() == 1 {
        return format!("{} {unit}", number(median));
    }
    format!("{} ({}–{}) {unit}", number(median), number(least), number(most))
}

/// Three digits that matter, or all that stand before the point.
fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}
