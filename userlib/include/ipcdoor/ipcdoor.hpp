// SPDX-License-Identifier: MIT
// All of ipcdoor's C++ layer.
#ifndef IPCDOOR_IPCDOOR_HPP
#define IPCDOOR_IPCDOOR_HPP

#include <ipcdoor/async.hpp>
#include <ipcdoor/barrier.hpp>
#include <ipcdoor/condition.hpp>
#include <ipcdoor/deadline.hpp>
#include <ipcdoor/descriptor.hpp>
#include <ipcdoor/door.hpp>
#include <ipcdoor/endpoint.hpp>
#include <ipcdoor/error.hpp>
#include <ipcdoor/heap.hpp>
#include <ipcdoor/iostream.hpp>
#include <ipcdoor/latest.hpp>
#include <ipcdoor/listener.hpp>
#include <ipcdoor/mailbox.hpp>
#include <ipcdoor/memory.hpp>
#include <ipcdoor/message.hpp>
#include <ipcdoor/mutex.hpp>
#include <ipcdoor/offset_ptr.hpp>
#include <ipcdoor/page_options.hpp>
#include <ipcdoor/pipe.hpp>
#include <ipcdoor/publish.hpp>
#include <ipcdoor/ring.hpp>
#include <ipcdoor/rpc.hpp>
#include <ipcdoor/semaphore.hpp>
#include <ipcdoor/signal.hpp>
#include <ipcdoor/signal_box.hpp>
#include <ipcdoor/stream.hpp>
#include <ipcdoor/subscribe.hpp>
#include <ipcdoor/type_hash.hpp>
#include <ipcdoor/wait_set.hpp>
#include <ipcdoor/wait_source.hpp>

#endif  // IPCDOOR_IPCDOOR_HPP
