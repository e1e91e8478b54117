// A room under µWebSockets: every message is published to all connections. The script `build` compiles it.

#include <csignal>
#include <cstdio>
#include <string_view>

#include <sys/prctl.h>
#include <sys/resource.h>

#include "App.h"

struct Nothing {};

int main(int count, char **arguments) {
    if (count > 1) {
        // The benches call `--version` to check that the program exists.
        return arguments[1] == std::string_view("--version") ? 0 : 2;
    }
    // Exit with the parent process. The other servers use a thread that waits for standard input, but here a
    // second thread would make the allocator take locks.
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }

    bool listens = false;
    uWS::App app;
    app
        .ws<Nothing>("/ws", {
            .compression = uWS::DISABLED,
            .maxPayloadLength = 16 * 1024 * 1024,
            .idleTimeout = 0,
            // No limit: a message over the limit would be dropped.
            .maxBackpressure = 0,
            // Without an idle timeout, the computed time of the next ping would overflow.
            .sendPingsAutomatically = false,
            .open = [](auto *socket) { socket->subscribe("room"); },
            .message = [&app](auto *, std::string_view message, uWS::OpCode opcode) {
                app.publish("room", message, opcode);
            },
        })
        .listen("127.0.0.1", 0, [&listens](us_listen_socket_t *socket) {
            if (!socket) return;
            listens = true;
            int port = us_socket_local_port(0, reinterpret_cast<us_socket_t *>(socket));
            std::printf("listening on 127.0.0.1:%d\n", port);
            std::fflush(stdout);
        })
        .run();
    return listens ? 0 : 1;
}
