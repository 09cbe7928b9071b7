// Fill the page from the data and the address

readHash();
fillControls();
fillCurveFields();
listen();
listenPlane();
listenTokens();
drawComparison();
drawPlane();
drawTokens();
drawCurves();
document.documentElement.dataset.ready = "true";
