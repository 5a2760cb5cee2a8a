//! Every program, and how it is started and queried. Data table.

use crate::toolchain::Make;

/// A program, with one row of the matrix.
#[derive(Debug, PartialEq, Eq)]
pub struct Program {
    /// Name of the row.
    pub name: &'static str,
    /// The folder of `examples/programs` in which the program runs.
    pub folder: &'static str,
    /// The argument of `pmr start`. See [`toolchain::place`](crate::toolchain::place) for words in braces.
    pub program: &'static str,
    /// Arguments of the program itself, separated by spaces.
    pub args: &'static str,
    pub make: Make,
    pub query: PidQuery,
    /// The program inherits its socket (`--listen`) and binds none itself.
    pub activated: bool,
    /// Set if the program may answer requests inside a killed worker with an error of its own: the reason.
    pub error_on_kill: Option<&'static str>,
}

/// How a program reports its pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PidQuery {
    /// `/` answers with the pid at once, `/work` after 30 ms.
    Plain,
    /// Both paths answer with a page that contains the pid, matched by this pattern.
    In(&'static str),
    /// Only this path answers with the pid, matched by this pattern.
    At(&'static str, &'static str),
}

const fn program(name: &'static str, folder: &'static str, program: &'static str, args: &'static str) -> Program {
    Program {
        name,
        folder,
        program,
        args,
        make: Make::Nothing,
        query: PidQuery::Plain,
        activated: false,
        error_on_kill: None,
    }
}

impl Program {
    const fn made(self, make: Make) -> Program {
        Program { make, ..self }
    }

    const fn query(self, query: PidQuery) -> Program {
        Program { query, ..self }
    }

    const fn activated(self) -> Program {
        Program { activated: true, ..self }
    }

    const fn error_on_kill(self, why: &'static str) -> Program {
        Program { error_on_kill: Some(why), ..self }
    }
}

const ORPHAN: &str = "the child of a killed master ends, and answers its open request with a 500";

/// All rows, in the order of the table.
pub static PROGRAMS: &[Program] = &[
    // The program lists the folder of its own threads. The first of them is its pid.
    program(
        "python -m http.server",
        "python",
        "{python3}",
        "-m http.server {port} --bind 127.0.0.1 --directory /proc/self/task",
    )
    .query(PidQuery::At("/", r#"href="(\d+)/""#)),
    program("Python asyncio", "python", "asyncio_server.py", "").made(Make::Python3),
    program("Flask", "python", "{venv}/flask", "--app flask_app run --port {port}"),
    program("gunicorn, sync", "python", "{venv}/gunicorn", "--bind 127.0.0.1:{port} wsgi_app").error_on_kill(ORPHAN),
    program("gunicorn, gthread", "python", "{venv}/gunicorn", "--threads 4 --bind 127.0.0.1:{port} wsgi_app"),
    program("uvicorn", "python", "{venv}/uvicorn", "--port {port} asgi_app:app"),
    program("uvicorn --workers 2", "python", "{venv}/uvicorn", "--workers 2 --port {port} asgi_app:app"),
    program("hypercorn", "python", "{venv}/hypercorn", "--bind 127.0.0.1:{port} asgi_app:app"),
    program("waitress", "python", "{venv}/waitress-serve", "--listen 127.0.0.1:{port} wsgi_app:application"),
    program("Go net/http, static", "go", "{made}/go-server", "").made(Make::Go { package: ".", to: "go-server" }),
    program("Ruby WEBrick", "ruby", "webrick_server.rb", ""),
    program("Puma", "ruby", "puma", "--bind tcp://127.0.0.1:{port}"),
    program("Puma -w 2", "ruby", "puma", "-w 2 --bind tcp://127.0.0.1:{port}"),
    program("php -S", "php", "php", "-S 127.0.0.1:{port} index.php"),
    program("Java HttpServer", "java", "java", "-cp {made}/java Server").made(Make::Javac),
    program("Bun", "javascript", "{packages}/@oven/bun-linux-{x64}/bin/bun", "bun.ts"),
    program("Deno", "javascript", "{packages}/@deno/linux-{x64}-glibc/deno", "run --allow-net --allow-env deno.ts"),
    program("Rust std", "rust", "{made}/plain", "").made(Make::Rustc),
    program("Rust axum", "rust", "{made}/axum/release/axum-server", "").made(Make::Cargo),
    program("nginx", "nginx", "nginx", "-p . -c nginx.conf").query(PidQuery::At("/", r"^(\d+)")),
    program("Node by npm start", "npm", "npm", "start"),
    program("next start", "next", "node_modules/.bin/next", "start --port {port}")
        .made(Make::Next)
        .query(PidQuery::In(r#"id="pid">(\d+)"#)),
    program("busybox httpd", "busybox", "busybox", "httpd -f -p 127.0.0.1:{port}")
        .query(PidQuery::At("/cgi-bin/pid", r"^(\d+)")),
    program("gunicorn, sync, activated", "python", "{venv}/gunicorn", "wsgi_app").activated().error_on_kill(ORPHAN),
    program("gunicorn, gthread, activated", "python", "{venv}/gunicorn", "--threads 4 wsgi_app").activated(),
    program("uvicorn --fd 3", "python", "{venv}/uvicorn", "--fd 3 asgi_app:app").activated(),
    program("hypercorn --bind fd://3", "python", "{venv}/hypercorn", "--bind fd://3 asgi_app:app").activated(),
    program("Go net/http, static, activated", "go", "{made}/go-activated", "")
        .made(Make::Go { package: "./activated", to: "go-activated" })
        .activated(),
    // Puma accepts only as many connections as it has threads. With five threads, all would belong to clients that
    // never close a connection while only one process runs.
    program("Puma, activated", "ruby", "puma", "-t 0:16 --bind tcp://127.0.0.1:{port}").activated(),
    program("Puma -w 2, activated", "ruby", "puma", "-t 0:16 -w 2 --bind tcp://127.0.0.1:{port}").activated(),
];

/// Returns the program with this name.
pub fn named(name: &str) -> &'static Program {
    PROGRAMS.iter().find(|program| program.name == name).expect("the table has it")
}
