// SPDX-License-Identifier: Apache-2.0
/* The credential is wiped from memory as soon as the command is done with it. */
#include "identity.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define IDENTITY_MAX 65536

char *identity_base(void)
{
    const char *xdg = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    if (xdg && *xdg == '/')
        return cli_format("%s/steadfs", xdg);
    return home && *home ? cli_format("%s/.local/state/steadfs", home) : NULL;
}

char *identity_only(bool *several)
{
    *several = false;
    cleanup_free char *base = identity_base();
    DIR *d = base ? opendir(base) : NULL;
    char *found = NULL;
    struct dirent *e;
    while (d && (e = readdir(d))) {
        if (e->d_name[0] == '.')
            continue;
        cleanup_free char *file = cli_format("%s/%s/identity", base, e->d_name);
        if (access(file, F_OK))
            continue;
        *several = found != NULL;
        if (*several)
            break;
        found = cli_format("%s/%s", base, e->d_name);
    }
    if (d)
        closedir(d);
    if (*several) {
        free(found);
        return NULL;
    }
    return found;
}

/* The value of key in text, malloc'd, or NULL. */
static char *value(const char *text, const char *key)
{
    size_t n = strlen(key);
    for (const char *line = text; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (!strncmp(line, key, n) && line[n] == '=')
            return cli_format("%.*s", (int)strcspn(line + n + 1, "\r\n"), line + n + 1);
    }
    return NULL;
}

static int take(const struct subcommand *c, const char *file, struct identity *id, char **ca_path)
{
    cleanup_free char *text = cli_read_file(file, IDENTITY_MAX);
    if (!text)
        return cli_fail(c, EXIT_FAILED, "%s: %s", file, strerror(errno));
    id->url = value(text, "url");
    id->credential = value(text, "credential");
    if (ca_path)
        *ca_path = value(text, "ca");
    explicit_bzero(text, strlen(text));
    if (!id->url || !id->credential)
        return cli_fail(c, EXIT_FAILED, "%s is damaged: it has no url= or no credential=", file);
    return EXIT_DONE;
}

int identity_of_state(const struct subcommand *c, const char *state, struct identity *id)
{
    *id = (struct identity){0};
    cleanup_free char *file = cli_format("%s/identity", state);
    if (access(file, F_OK))
        return cli_fail(c, EXIT_FAILED, "%s holds no identity; run steadfs login INVITATION",
                        state);
    int status = take(c, file, id, NULL);
    cleanup_free char *ca = cli_format("%s/ca.pem", state);
    if (!status)
        id->ca_pem = cli_read_file(ca, IDENTITY_MAX);
    return status;
}

int identity_of_admin(const struct subcommand *c, const char *file, struct identity *id)
{
    *id = (struct identity){0};
    const char *home = getenv("HOME");
    cleanup_free char *own = cli_format("%s/.config/steadfs/admin", home ? home : "");
    if (!file)
        file = getenv("STEADFS_ADMIN");
    if (!file || !*file)
        file = access(own, F_OK) ? "/etc/steadfs/admin" : own;
    if (access(file, R_OK))
        return cli_fail(c, EXIT_FAILED,
                        "%s: %s; the metadata server wrote the administrator's credential into "
                        "admin.credential of its data directory: copy it here, or name it with "
                        "--admin FILE",
                        file, strerror(errno));
    cleanup_free char *ca = NULL;
    int status = take(c, file, id, &ca);
    if (!status && !ca && !strncmp(id->url, "https:", 6)) {
        const char *slash = strrchr(file, '/');
        ca = cli_format("%.*sca.pem", slash ? (int)(slash - file) + 1 : 0, file);
    }
    if (!status && ca && !(id->ca_pem = cli_read_file(ca, IDENTITY_MAX)))
        status = cli_fail(c, EXIT_FAILED, "%s, for %s: %s", ca, file, strerror(errno));
    return status;
}

void identity_free(struct identity *id)
{
    free(id->url);
    if (id->credential)
        explicit_bzero(id->credential, strlen(id->credential));
    free(id->credential);
    free(id->ca_pem);
    *id = (struct identity){0};
}
