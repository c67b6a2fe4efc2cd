//! Log lines in klog's form, which log collectors of Kubernetes know: `I1122 23:26:01.123456 4711 module] text key=value`.

use std::{fmt, panic::PanicHookInfo};

use clap::Args;
use jiff::{Timestamp, tz::TimeZone};
use tracing::{Event, Level, Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    filter::Targets,
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    layer::SubscriberExt,
    registry::LookupSpan,
    util::SubscriberInitExt,
};

/// Libraries whose own words below a warning help nobody who runs a cluster.
const QUIET: [&str; 6] = ["h2", "hyper", "hyper_util", "rustls", "tonic", "tower"];

#[derive(Args, Clone, Debug)]
pub struct LogFlags {
    /// How much to log: 0 to 3 what happens, 4 and 5 how, 6 and more everything
    #[arg(short = 'v', long = "v", value_name = "LEVEL", default_value_t = 0)]
    pub verbosity: u8,
}

/// Starts logging to standard error, panics included.
pub fn start(flags: &LogFlags) {
    let level = match flags.verbosity {
        0..=3 => LevelFilter::INFO,
        4 | 5 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let libraries = if flags.verbosity >= 8 { LevelFilter::TRACE } else { LevelFilter::WARN };
    let filter = Targets::new().with_default(level).with_targets(QUIET.map(|library| (library, libraries)));
    let format = tracing_subscriber::fmt::layer().event_format(Klog).with_ansi(false).with_writer(std::io::stderr);
    // A second start, as in tests, leaves the first one's settings.
    let _ = tracing_subscriber::registry().with(filter).with(format).try_init();
    std::panic::set_hook(Box::new(log_panic));
}

/// Every panic ends some task only; its cause must not be lost with it.
fn log_panic(info: &PanicHookInfo<'_>) {
    let payload = info.payload();
    let text = payload.downcast_ref::<&str>().copied().or(payload.downcast_ref::<String>().map(String::as_str));
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let backtrace = std::backtrace::Backtrace::force_capture();
    tracing::error!(cause = text.unwrap_or("unknown"), place, %backtrace, "panic");
}

struct Klog;

impl<S, N> FormatEvent<S, N> for Klog
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let meta = event.metadata();
        let letter = match *meta.level() {
            Level::ERROR => 'E',
            Level::WARN => 'W',
            _ => 'I',
        };
        let now = Timestamp::now().to_zoned(TimeZone::UTC);
        write!(writer, "{letter}{:02}{:02} ", now.month(), now.day())?;
        write!(
            writer,
            "{:02}:{:02}:{:02}.{:06} ",
            now.hour(),
            now.minute(),
            now.second(),
            now.subsec_nanosecond() / 1000
        )?;
        write!(writer, "{} {}] ", std::process::id(), meta.target())?;
        context.field_format().format_fields(writer.by_ref(), event)?;
        writeln!(writer)
    }
}
