/* SPDX-License-Identifier: Apache-2.0 */
/* Connection strings before anything is dialled: what is refused and why, what is only passed over,
 * and that no message has any part of a password. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <mongoc/mongoc.h>

#include "engine/base/sink.h"
#include "engine/link/driver.h"
#include "engine/link/link.h"
#include "engine/link/uri.h"

static void refuses(const char *uri, const char *reason)
{
    char *unheeded;
    tow_error_t error = {0};

    if (tow_uri_try(uri, "source", &unheeded, &error))
        fail_msg("%s was taken", uri);
    assert_null(unheeded);
    assert_int_equal(error.code, TOW_ERROR_OPTION);
    if (!strstr(error.message, reason) || !strstr(error.message, "source"))
        fail_msg("%s: %s", uri, error.message);
    assert_null(strstr(error.message, "hunter"));
    assert_null(strstr(error.message, "\n"));
    assert_int_equal(tow_error_stage(&error), TOW_STAGE_URI);
}

static void the_reason_is_said(void **state)
{
    refuses("mongodb://127.0.0.1:99999/", "port 99999 is out of range 1 to 65535");
    refuses("mongodb://u:hunter2@h1:27017,h2:0/", "port 0 is out of range");
    refuses("mongodb://[::1]:65536/?tls=true", "port 65536 is out of range");
    refuses("mongodb://127.0.0.1:abc/", "Port could not be parsed;");
    refuses("mongodb://u:hunter2@", "Empty hostname");
    refuses("mongodb+srv://nope.invalid", "three parts");
    refuses("mongodb+srv://a.b.c:27017", "Port numbers are prohibited in an SRV URI");
    refuses("no-uri", "begins with neither mongodb:// nor mongodb+srv://");
    refuses("mongodb://h/?tls=maybe", "Unsupported value for \"tls\";");
    refuses("mongodb://h/?connectTimeoutMS", "URI option \"connectTimeoutMS\" contains no");
    refuses("mongodb://h/?zlibCompressionLevel=99", "must be between -1 and 9");
    refuses("mongodb://h/?loadBalanced=true&directConnection=true", "\"loadbalanced\"");
    refuses("mongodb://h/?tls=true&ssl=false", "old and its new name");
    refuses("mongodb://h?tls=true", "a / is needed between");
    refuses("mongodb://h/tls=true", "options begin with a ?");
    refuses("mongodb://h/?w=1;tls=true", "further one with a &");
    refuses("mongodb://h/?w=1&amp;tls=true", "further one with a &");
    refuses("mongodb://h/?replicaSet=a?tls=true", "further one with a &");
    refuses("mongodb://h/?authMechanism=SCRAM-SHA-256", "no user name");
}

static void no_part_of_a_password_is_said(void **state)
{
    refuses("mongodb://u:hunter2@x@h/", "%40");
    refuses("mongodb://u:hunter:2@h/", "the password has a character that must be");
    refuses("mongodb://u:hunter\":2@h/", "the password has a character that must be");
    refuses("mongodb://u:hunter%2@h/", "the password has a character that must be");
    refuses("mongodb://hunter%2:3@h/", "the user name has a character that must be");

    refuses("mongodb://u:hunter/2@h/", "Port could not be parsed");
    refuses("mongodb://u:99999/hunter@h/", "Port could not be parsed;");
    refuses("mongodb://h/?tls=hunter2", "\"tls\"");
    refuses("mongodb://h/?tls=a\"tls\"hunter2", "\"tls\"");
    refuses("mongodb://h/?readPreference=hunter2", "readPreference value;");
    refuses("mongodb://u:p@h/?tlsCertificateKeyFilePassword=a&tls.hunter=2", "***");
}

static void a_misspelt_security_option_is_refused(void **state)
{
    static const char *const options[][2] = {{"ssll=true", "ssl"},
                                             {"tlss=true", "tls"},
                                             {"tsl=true", "tls"},
                                             {"%74ls=true", "tls"},
                                             {"tls%00=true", "tls"},
                                             {"tls%20=true", "tls"},
                                             {"authSourc=admin", "authSource"},
                                             {"uathSource=a", "authSource"},
                                             {"authDatabase=x", "auth"},
                                             {"tlsCertFile=x", "tls"},
                                             {"sslModus=x", "ssl"},
                                             {"amptls=true", "tls"},
                                             {"gssapiServicName=x", "gssapiServiceName"}};

    for (size_t i = 0; i < sizeof options / sizeof *options; i++) {
        char uri[100];

        snprintf(uri, sizeof uri, "mongodb://u:hunter2@h/?w=1&%s", options[i][0]);
        refuses(uri, options[i][1]);
        refuses(uri, "unknown option");
    }
    refuses("mongodb://h/?SSLl=true", "unknown option, SSLl, that resembles ssl");
    refuses("mongodb://h/?tls=", "option tls of the source's URI has no value");
    refuses("mongodb://h/?tls=true&tls=false", "option tls of the source's URI is given twice");
}

static void passes(const char *uri, const char *unheeded)
{
    char *said;
    tow_error_t error;

    if (!tow_uri_try(uri, "source", &said, &error))
        fail_msg("%s: %s", uri, error.message);
    if (unheeded) {
        assert_non_null(said);
        assert_string_equal(said, unheeded);
    } else {
        assert_null(said);
    }
    free(said);
}

static void what_is_passed_over_is_named(void **state)
{
    passes("mongodb://u:p@h1,h2:27018/?replicaSet=rs&tls=true&tlsCAFile=/x&authSource=$external",
           NULL);
    passes("mongodb+srv://u:p%40@cluster0.example.net/shop?w=majority", NULL);
    passes("mongodb://h/?TLS=true&retryReads=false", NULL);
    passes("mongodb://h/?timeoutMS=5&proxyHost=x",
           "unknown option timeoutMS is ignored, unknown option proxyHost is ignored");
    passes("mongodb://h/?hunter2=x", "unknown option *** is ignored");
    passes("mongodb://h/?compressors=hunter2", "Unsupported compressor");
    passes("mongodb://h/?connectTimeoutMS=", "Empty value provided for \"connecttimeoutms\"");
}

/* A host's log ---------------------------------------------------------------------------------*/

static unsigned host_heard;

static void host_hear(mongoc_log_level_t level, const char *domain, const char *message, void *data)
{
    host_heard += level <= MONGOC_LOG_LEVEL_WARNING;
}

/* Until the host gives it away, the driver's log is the host's; what is refused is the same. */
static void the_drivers_log_is_the_hosts(void **state)
{
    mongoc_log_set_handler(host_hear, NULL);
    tow_driver_enter();
    mongoc_log(MONGOC_LOG_LEVEL_WARNING, "mongoc", "for the host");
    assert_int_equal(host_heard, 1);
    assert_false(tow_driver_is_heard());
    refuses("mongodb://127.0.0.1:99999/", "port 99999 is out of range 1 to 65535");
    refuses("mongodb://127.0.0.1:abc/", "a host or its port cannot be read");
    refuses("mongodb://u:hunter/2@h/", "a host or its port cannot be read");
    refuses("mongodb://h/?tls=hunter2", "\"tls\"");
    a_misspelt_security_option_is_refused(state);
    passes("mongodb://u:p@h1,h2:27018/?replicaSet=rs&tls=true&tlsCAFile=/x&authSource=$external",
           NULL);
    passes("mongodb://h/?readPreference=secondary&readPreferenceTags=a:b&readPreferenceTags=c:d",
           NULL);
    passes("mongodb://h/?hunter2=x", "unknown option *** is ignored");
    passes("mongodb://h/?connectTimeoutMS=", "Empty value provided for \"connectTimeoutMS\"");
    assert_true(host_heard > 1);
    tow_driver_leave();
}

static int take_log(void **state)
{
    tow_take_driver_log();
    return 0;
}

/* The driver's own words ------------------------------------------------------------------------*/

static char heard[1000];
static size_t times;

static void hear(void *data, tow_level_t level, const char *name, const char *message)
{
    assert_int_equal(level, TOW_LEVEL_WARNING);
    assert_string_equal(name, "driver_warning");
    snprintf(heard, sizeof heard, "%s", message);
    times++;
}

static void a_warning_of_the_driver_reaches_the_log(void **state)
{
    tow_sink_t sink = {hear, NULL}, silent = {0};

    tow_driver_enter();
    mongoc_log(MONGOC_LOG_LEVEL_WARNING, "mongoc", "cannot reach mongodb://u:%s@h\n", "hunter2");
    assert_int_equal(times, 0); /* it may hold a lock when it speaks */
    tow_driver_tell(&silent);
    tow_driver_tell(&sink);
    assert_int_equal(times, 1);
    assert_string_equal(heard, "the MongoDB driver warns: cannot reach mongodb://***@h");
    mongoc_log(MONGOC_LOG_LEVEL_WARNING, "mongoc", "cannot reach mongodb://u:%s@h\n", "hunter2");
    mongoc_log(MONGOC_LOG_LEVEL_INFO, "mongoc", "nobody wants to know");
    tow_driver_tell(&sink);
    assert_int_equal(times, 1); /* once a minute */
    for (int i = 0; i < 100; i++)
        mongoc_log(MONGOC_LOG_LEVEL_ERROR, "mongoc", "another %d", i);
    tow_driver_tell(&sink);
    assert_in_range(times, 2, 40); /* what is not taken in time goes */
    assert_string_equal(heard, "the MongoDB driver warns: another 99");
    tow_driver_leave();
}

/* What reading a URI makes it say is an answer to that alone. */
static void reading_a_uri_says_nothing_else(void **state)
{
    tow_sink_t sink = {hear, NULL};

    times = 0;
    tow_driver_enter();
    passes("mongodb://h/?timeoutMS=5", "unknown option timeoutMS is ignored");
    tow_driver_tell(&sink);
    assert_int_equal(times, 0);
    tow_driver_leave();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_drivers_log_is_the_hosts), /* first: the log is taken once */
        cmocka_unit_test_setup(the_reason_is_said, take_log),
        cmocka_unit_test(no_part_of_a_password_is_said),
        cmocka_unit_test(a_misspelt_security_option_is_refused),
        cmocka_unit_test(what_is_passed_over_is_named),
        cmocka_unit_test(a_warning_of_the_driver_reaches_the_log),
        cmocka_unit_test(reading_a_uri_says_nothing_else),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
