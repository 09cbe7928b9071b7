// Start

readHash();
fillControls();
drawTokens();
listenControls();
listenTokens();
