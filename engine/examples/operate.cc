/* SPDX-License-Identifier: Apache-2.0 */
// operate.cc: a job from C++: its events are taken by this thread, which asks for the cutover when
// the job is in sync. Here nothing writes to the source; a real program stops the application
// before it asks.
//
//     operate SOURCE-URI DESTINATION-URI SPOOL-FOLDER
//     c++ -std=c++17 -o operate operate.cc $(pkg-config --cflags --libs towline)
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>
#include <towline.h>

namespace
{

struct Destroy {
    void operator()(tow_options_t *options) const
    {
        tow_options_destroy(options);
    }
    void operator()(tow_job_t *job) const
    {
        tow_job_destroy(job);
    }
    void operator()(tow_event_queue_t *queue) const
    {
        tow_event_queue_destroy(queue);
    }
    void operator()(char *text) const
    {
        tow_free(text);
    }
};
template <typename T> using Owned = std::unique_ptr<T, Destroy>;

class Error : public std::runtime_error
{
  public:
    explicit Error(const tow_error_t &error) : std::runtime_error(error.message), code(error.code)
    {
    }
    tow_error_code_t code;
};

Owned<tow_options_t> make_options(char **words)
{
    Owned<tow_options_t> options(tow_options_new());
    const char *const names[] = {"source", "destination", "spool"};
    tow_error_t error;

    for (const char *name : names)
        if (!tow_options_set(options.get(), name, *words++, &error))
            throw Error(error);
    return options;
}

void operate(const tow_options_t *options)
{
    Owned<tow_event_queue_t> queue; // outlives the job, whose threads fill it
    tow_error_t error;
    Owned<tow_job_t> job(tow_job_new(options, &error));

    if (!job)
        throw Error(error);
    queue.reset(tow_event_queue_new(job.get()));
    if (!tow_job_start(job.get(), &error))
        throw Error(error);
    while (const tow_queued_event_t *event = tow_event_queue_next(queue.get(), -1)) {
        std::cout << event->name << ": " << event->message << std::endl;
        if (event->name != std::string("phase") || event->message != std::string("in-sync"))
            continue;
        if (!tow_job_cutover(job.get(), &error))
            std::cerr << error.message << std::endl;
    }
    if (!tow_job_wait(job.get(), &error))
        throw Error(error);
    std::cout << Owned<char>(tow_job_summary_json(job.get())).get() << std::endl;
}

} // namespace

int main(int argc, char **argv)
{
    if (argc != 4) {
        std::cerr << "usage: operate SOURCE-URI DESTINATION-URI SPOOL-FOLDER\n";
        return TOW_ERROR_OPTION;
    }
    try {
        operate(make_options(argv + 1).get());
        tow_threads_ended(10000);
        return 0;
    } catch (const Error &error) {
        std::cerr << error.what() << std::endl;
        return error.code;
    }
}
