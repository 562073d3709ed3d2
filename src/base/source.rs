//! Who answered a request. One string each: the log field, the metric label and the header value.

/// Who produced the answer that the client got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Source {
    /// The gateway itself refused or failed (bad request, no route, origin down …).
    #[default]
    Gateway,
    /// The policy script answered.
    Policy,
    /// An auth rule refused.
    Auth,
    /// A `respond` or `redirect` route.
    Static,
    /// The HTTP cache, without asking the origin.
    HttpCache,
    /// The origin app.
    Origin,
    /// The exact cache of model answers.
    AiExact,
    /// The semantic cache of model answers.
    AiSemantic,
    /// An identical model call already in flight.
    AiCollapsed,
    /// A model provider.
    Provider,
    /// A server of the Model Context Protocol.
    Mcp,
    /// A result of such a server that was kept.
    McpCache,
}

impl Source {
    /// The one spelling used in logs, metrics and headers.
    pub fn as_str(self) -> &'static str {
        match self {
            Source::Gateway => "gateway",
            Source::Policy => "policy",
            Source::Auth => "auth",
            Source::Static => "static",
            Source::HttpCache => "http_cache",
            Source::Origin => "origin",
            Source::AiExact => "ai_exact",
            Source::AiSemantic => "ai_semantic",
            Source::AiCollapsed => "ai_collapsed",
            Source::Provider => "provider",
            Source::Mcp => "mcp",
            Source::McpCache => "mcp_cache",
        }
    }

    /// Every source, for metric registration.
    pub const ALL: [Source; 12] = [
        Source::Gateway,
        Source::Policy,
        Source::Auth,
        Source::Static,
        Source::HttpCache,
        Source::Origin,
        Source::AiExact,
        Source::AiSemantic,
        Source::AiCollapsed,
        Source::Provider,
        Source::Mcp,
        Source::McpCache,
    ];
}
